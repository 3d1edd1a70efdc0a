"""How the nginx of the tests is configured: a site for each kind of log."""

from __future__ import annotations

MAIN = """
worker_processes {workers};
pid {folder}/nginx.pid;
daemon off;
user {user};
error_log logs/error.log info;  # and "quotes" in a comment; with {{ braces
events {{ worker_connections 64; }}
http {{
    {temporary}
    include conf.d/*.conf;
}}
"""
SITES = """
log_format timed '$remote_addr:$remote_port [$time_iso8601] "$request" $status $bytes_sent '
                 '$request_time ${{request_length}} "$http_user_agent" '
                 '$upstream_addr $upstream_status $upstream_response_time "$upstream_http_x_made"';
log_format as_json escape=json '{{"msec":"$msec","remote_addr":"$remote_addr","request":"$request",'
                 '"status":$status,"body_bytes_sent":$body_bytes_sent,"http_user_agent":"$http_user_agent",'
                 '"host":"$host","scheme":"$scheme","remote_user":"$remote_user"}}';
limit_req_zone $binary_remote_addr zone=slow:1m rate=1r/m;
upstream two {{ server 127.0.0.1:{dead} max_fails=0; server 127.0.0.1:{inner} max_fails=0 backup; }}
server {{
    listen 127.0.0.1:{combined};
    listen [::1]:{combined};
    listen unix:{folder}/nginx.sock;
    server_name plain;
    access_log logs/access.log;
    root {folder}/www;
    location /secret {{
        auth_basic "s";
        auth_basic_user_file {folder}/passwords;
        try_files /index.html =404;
    }}
    location /slow {{ limit_req zone=slow; try_files /index.html =404; }}
}}
server {{
    listen 127.0.0.1:{timed};
    access_log logs/timed.log timed;
    location / {{ proxy_pass http://two; }}
    location /inner {{ proxy_pass http://127.0.0.1:{inner}; }}
    location /here {{ return 204; }}
}}
server {{
    listen 127.0.0.1:{as_json};
    access_log {folder}/logs/json.log as_json;
    location / {{ return 200 "j"; }}
}}
server {{
    listen 127.0.0.1:{to_syslog};
    root {folder}/www;
    access_log syslog:server=127.0.0.1:{syslog},tag=web_nginx;
    error_log syslog:server=127.0.0.1:{syslog},tag=web_nginx;
}}
server {{
    listen 127.0.0.1:{inner};
    access_log off;
    location / {{ add_header X-Made 'in "here'; return 201 "made"; }}
}}
"""
