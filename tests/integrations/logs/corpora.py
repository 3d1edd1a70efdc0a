"""Log lines that other projects test their parsers with, and what they expect of them; none is in this repository."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from documents import ROOT
from eventstorm_integrations.logs import Event, Parser, Remembering
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.postfix import PostfixParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.sshd import SshdParser

FOLDER = ROOT.parent / "shared" / "corpora"

# The formats of lines that are neither nginx's own nor one of those that have a name.
_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
_TAIL = '"$http_user_agent" "$http_referer"'
_PROXY_MANAGER = "[Client $remote_addr] [Length $body_bytes_sent] [Gzip $gzip_ratio]"
FORMATS = [
    "ingress",
    f"$remote_addr - [$proxy_protocol_addr] - $remote_user [$time_local] {_COMBINED.partition('] ')[2]} $request_length"
    " $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length"
    " $upstream_response_time $upstream_status $req_id",
    f"$remote_addr - [$proxy_protocol_addr] - $remote_user [$time_local] {_COMBINED.partition('] ')[2]} $request_length"
    " $request_time [$proxy_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time"
    " $upstream_status $req_id",
    f"$remote_addr - [$proxy_protocol_addr] - $remote_user [$time_local] {_COMBINED.partition('] ')[2]} $request_length"
    " $request_time [$proxy_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time"
    " $upstream_status",
    f"{_COMBINED} $request_length $request_time [$proxy_upstream_name] $upstream_addr $upstream_response_length"
    " $upstream_response_time $upstream_status $req_id",
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent $request_time "$http_referer"'
    ' "$http_user_agent"',
    f"$host:$server_port {_COMBINED}",
    f"$host {_COMBINED}",
    f"$remote_addr - [$time_local] {_COMBINED.partition('] ')[2]}",
    '[$time_local] $host $remote_addr $request_time "$request" $status $body_bytes_sent $request_length $http_referer'
    " $http_user_agent",
    f'[$time_local] $upstream_cache_status $upstream_status $status - $request_method $scheme $host "$request_uri"'
    f" {_PROXY_MANAGER} [Sent-to $server] {_TAIL}",
    f'[$time_local] $upstream_cache_status $upstream_status $status - $request_method $scheme $host "$request_uri"'
    f" {_PROXY_MANAGER} {_TAIL}",
    f'[$time_local] $status - $request_method $scheme $host "$request_uri" {_PROXY_MANAGER} [Sent-to $server] {_TAIL}',
    f'[$time_local] $status - $request_method $scheme $host "$request_uri" {_PROXY_MANAGER} {_TAIL}',
    "main",
    "combined",
    "common",
]
"""The most particular first, since the named ones also read lines that go on after their end."""


@dataclass(frozen=True)
class Row:
    """A line, and what is expected of it: names in dotted form as our events have them."""

    name: str
    program: str
    line: str
    facts: Mapping[str, Any]
    """Empty for a line of which nothing is to be told."""


def rows() -> Iterator[Row]:
    """Yield all rows of nginx, Postfix and sshd that state anything of a line's own."""
    crowdsec = list(_read("crowdsec.jsonl"))
    lines = [row["line"] for row in crowdsec]
    for number, row in enumerate(crowdsec):
        name = row["parser"].partition("/")[2]
        if row["stage"] == "s01-parse" and name in _CROWDSEC:
            program, facts = _CROWDSEC[name]
            if name == "nginx-mail-logs" and row["Success"]:
                if not (told := [line for line in lines if _tells(line, row["Parsed"])]):
                    continue
                row = {**row, "line": told[0]}
            yield Row(f"crowdsec-{number}", program, row["line"], facts(row) if row["Success"] else {})
    for number, row in enumerate(_read("datadog.jsonl")):
        program = row["file"].partition("_")[0].partition("-")[0]
        if program in ("nginx", "postfix", "sshd"):
            yield Row(f"datadog-{number}", program, row["line"], _datadog(row["expected"]))
    for row in _read("nginx-vrl.jsonl"):
        if row["func"] == "parse_nginx_log":
            yield Row(f"vrl-{row['id']}", "nginx", row["line"], _vrl(row["expected"] or {}))


def events(row: Row) -> list[Event]:
    """Return what our parser makes of the line alone: of nginx's, in the first format that reads it."""
    now_s = 1_790_000_000.0
    if row.program == "nginx":
        for text in FORMATS:
            try:
                return list(NginxParser(LogsSettings(timezone="UTC", format=text)).feed(row.line, now_s))
            except Exception:
                continue
        return []
    settings = LogsSettings(timezone="UTC")
    parser: Parser = SshdParser(settings) if row.program == "sshd" else PostfixParser(settings)
    found = list(parser.feed(row.line, now_s))
    assert isinstance(parser, Remembering)
    return [*found, *(() if found else parser.expire(math.inf))]


def value_at(data: Mapping[str, Any], path: str) -> Any:
    """Return what is at a dotted path; None where nothing is."""
    found: Any = data
    for name in path.split("."):
        if isinstance(found, list):
            found = found[int(name)] if name.isdigit() and int(name) < len(found) else None
        elif isinstance(found, Mapping):
            found = found.get(name)
        else:
            return None
    return found


def _read(name: str) -> Iterator[dict[str, Any]]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _tells(line: str, parsed: Mapping[str, Any]) -> bool:
    """Tell whether an expectation is of this line: some rows hold the line of another row."""
    return f" *{parsed['cid']} " in line and parsed["message"] in line


def _said(value: Any) -> Any:
    """Return a value as we have it: what nginx writes for "none" is left out."""
    return None if value in ("", "-", None) else value


def _request(line: str) -> dict[str, Any]:
    """Return the facts of a request line that a row has whole."""
    method, _, rest = line.partition(" ")
    target, _, version = rest.rpartition(" HTTP/")
    if not target or not method.isalpha():
        return {"http.request.line": _said(_unescaped(line))}
    return {"http.request.method": method, "network.protocol.version": version, **_url(target)}


def _url(target: str) -> dict[str, Any]:
    parts = urlsplit(target if not target.startswith("/") else f"http://h{target}")
    facts = {"url.path": _unescaped(parts.path), "url.query": parts.query or None}
    return facts if target.startswith("/") else {**facts, "url.scheme": parts.scheme}


def _unescaped(text: str) -> str:
    raw = text.encode("latin-1", "backslashreplace")
    out, at = bytearray(), 0
    while at < len(raw):
        if raw[at : at + 2] == b"\\x":
            out.append(int(raw[at + 2 : at + 4], 16))
            at += 4
        else:
            out.append(raw[at])
            at += 1
    return out.decode("utf-8", "backslashreplace")


def _crowdsec_nginx(row: dict[str, Any]) -> dict[str, Any]:
    parsed, facts = row["Parsed"], {}
    for name, path, kind in (
        ("remote_addr", "client.address", str),
        ("remote_user", "user.name", str),
        ("status", "http.response.status_code", int),
        ("body_bytes_sent", "http.response.body.size", int),
        ("http_referer", "http.request.header.referer", str),
        ("http_user_agent", "user_agent.original", str),
        ("http_version", "network.protocol.version", str),
        ("verb", "http.request.method", str),
        ("request_time", "duration", float),
        ("scheme", "url.scheme", str),
        ("gzip_ratio", "nginx.gzip_ratio", float),
        ("upstream_cache_status", "nginx.upstream_cache_status", str),
        ("upstream_status", "nginx.upstream.0.status_code", int),
        ("port", "server.port", int),
        ("cid", "nginx.connection", int),
        ("pid", "process.pid", int),
        ("tid", "thread.id", int),
        ("loglevel", "severity_text", str),
        ("username", "user.name", str),
        ("remote_port", "client.port", int),
    ):
        if name in parsed:
            facts[path] = None if _said(parsed[name]) is None else kind(parsed[name])
    if "target_fqdn" in parsed and "loglevel" in parsed:
        facts["nginx.server_name"] = _said(parsed["target_fqdn"])
    elif "target_fqdn" in parsed:
        facts["server.address"] = _said(parsed["target_fqdn"])
    if "request" in parsed:
        # Theirs is the target where there is a method, and else the line; of "POST https://…" it begins at the "//".
        if "verb" in parsed:
            if not parsed["request"].startswith("//"):
                facts.update(_url(parsed["request"]))
        else:
            facts["http.request.line"] = _said(_unescaped(parsed["request"]))
    return facts


def _crowdsec_sshd(row: dict[str, Any]) -> dict[str, Any]:
    parsed, meta = row["Parsed"], row["Meta"]
    facts = {
        "client.address": meta["source_ip"],
        "user.name": meta.get("target_user") or meta.get("user"),
        "process.pid": int(parsed["pid"]),
        "host.name": meta["machine"],
    }
    if meta["log_type"] == "auth_success":
        trail = parsed.get("sshd_trail", "").removeprefix(": ").partition(" ")
        facts |= {"outcome": "accepted", "client.port": int(parsed["sshd_client_port"])}
        facts |= {"key.type": trail[0] or None, "key.fingerprint": trail[2] or None}
    if "sshd_port" in parsed:
        facts["client.port"] = int(parsed["sshd_port"])
    return facts


def _crowdsec_postfix(row: dict[str, Any]) -> dict[str, Any]:
    parsed = row["Parsed"]
    facts = {"client.address": parsed["remote_addr"], "host.name": row["Meta"]["machine"]}
    facts["client.name"] = parsed["remote_host"] if parsed["remote_host"] != "unknown" else None
    if "smtp_basic_status_code" in parsed:
        facts |= {"outcome": "rejected", "stage": parsed["command"], "reason": parsed["reason"], "by": parsed["action"]}
        facts |= {"code": int(parsed["smtp_basic_status_code"]), "dsn": parsed["smtp_enhanced_status_code"]}
        for word in parsed.get("kvItems", "").split():
            name, _, value = word.partition("=")
            path = {"to": "recipients.0.to", "proto": "protocol"}.get(name, name)
            facts[path] = value.strip("<>")
    elif "command" in parsed:
        facts["command"] = parsed["command"]
    if "message_failure" in parsed:
        facts["reason"] = f"authentication failed:{parsed['message_failure']}"
    return facts


def _crowdsec_postscreen(row: dict[str, Any]) -> dict[str, Any]:
    parsed = row["Parsed"]
    return {
        "client.address": parsed["remote_addr"],
        "client.port": int(parsed["port"]),
        "command": parsed["message_attempt"],
        "reason": f"{parsed['pregreet']} {parsed['count']} after {parsed['time_attempt']}",
        "host.name": row["Meta"]["machine"],
    }


_CROWDSEC = {
    "modsecurity": ("nginx", _crowdsec_nginx),
    "nginx-logs": ("nginx", _crowdsec_nginx),
    "nginx-mail-logs": ("nginx", _crowdsec_nginx),
    "nginx-proxy-manager-logs": ("nginx", _crowdsec_nginx),
    "postfix-logs": ("postfix", _crowdsec_postfix),
    "postscreen-logs": ("postfix", _crowdsec_postscreen),
    "sshd-logs": ("sshd", _crowdsec_sshd),
    "sshd-success-logs": ("sshd", _crowdsec_sshd),
}


def _datadog(expected: Mapping[str, Any]) -> dict[str, Any]:
    custom = expected.get("custom", {})
    facts: dict[str, Any] = {}
    for theirs, ours in (
        ("http.auth", "user.name"),
        ("http.method", "http.request.method"),
        ("http.referer", "http.request.header.referer"),
        ("http.request_id", "nginx.req_id"),
        ("http.status_code", "http.response.status_code"),
        ("http.upstream_duration", "nginx.upstream.0.duration"),
        ("http.upstream_status_code", "nginx.upstream.0.status_code"),
        ("http.url_details.path", "url.path"),
        ("http.url_details.scheme", "url.scheme"),
        ("http.useragent", "user_agent.original"),
        ("http.version", "network.protocol.version"),
        ("network.bytes_read", "nginx.upstream.0.response_size"),
        ("network.bytes_written", "http.response.body.size"),
        ("network.client.ip", "client.address"),
        ("network.request_size", "http.request.size"),
        ("proxy.name", "nginx.proxy_upstream_name"),
        ("proxy.alternate_name", "nginx.proxy_alternative_upstream_name"),
        ("host", "server.address"),
        ("level", "severity_text"),
        ("server", "nginx.server_name"),
        ("postfix.client_id", "queue_id"),
        ("properties.from", "from"),
        ("properties.nrcpt", "recipient_count"),
        ("properties.to", "recipients.0.to"),
        ("properties.delay", "recipients.0.delay"),
        ("properties.dsn", "recipients.0.dsn"),
        ("properties.status", "recipients.0.status"),
        ("message-id", "message_id"),
        ("system.user", "user.name"),
        ("system.algorithm", "key.type"),
        ("system.key", "key.fingerprint"),
    ):
        value = value_at(custom, theirs)
        if value is not None:
            facts[ours] = _said(value)
    if "postfix" in custom:
        facts.pop("user.name", None)
        facts["host.name"] = custom["system"]["user"]
        if "http.response.body.size" in facts:
            facts["size"] = facts.pop("http.response.body.size")
    if value_at(custom, "network.client.port") is not None:
        facts["client.port"] = int(custom["network"]["client"]["port"])
    if value_at(custom, "http.url_details.queryString"):
        facts["url.query"] = "&".join(f"{a}={b}" for a, b in custom["http"]["url_details"]["queryString"].items())
    if value_at(custom, "network.destination"):
        to = custom["network"]["destination"]
        facts["nginx.upstream.0.address"] = f"{to['ip']}:{to['port']:.0f}"
    if "duration" in custom:  # theirs is in nanoseconds, and without its fraction
        facts["duration"] = float(custom["duration"]) / 1e9
    if "date_access" in custom:
        facts["ts"] = custom["date_access"] / 1000
    if message := value_at(custom, "error.message"):
        facts["body"] = message.partition(": ")[2].partition(" ")[2]
    return facts


def _vrl(expected: Mapping[str, Any]) -> dict[str, Any]:
    from datetime import datetime

    facts: dict[str, Any] = {}
    error = "severity" in expected
    names = {
        "client": "client.address",
        "remote_addr": "client.address",
        "user": "user.name",
        "remote_user": "user.name",
        "status": "http.response.status_code",
        "size": "http.response.body.size",
        "body_bytes_size": "http.response.body.size",
        "referer": "http.request.header.referer",
        "http_referer": "http.request.header.referer",
        "agent": "user_agent.original",
        "http_user_agent": "user_agent.original",
        "http_x_forwarded_for": "http.request.header.x-forwarded-for",
        "request_length": "http.request.size",
        "request_time": "duration",
        "proxy_upstream_name": "nginx.proxy_upstream_name",
        "proxy_alternative_upstream_name": "nginx.proxy_alternative_upstream_name",
        "upstream_addr": "nginx.upstream.0.address",
        "upstream_response_length": "nginx.upstream.0.response_size",
        "upstream_response_time": "nginx.upstream.0.duration",
        "upstream_status": "nginx.upstream.0.status_code",
        "req_id": "nginx.req_id",
        "severity": "severity_text",
        "pid": "process.pid",
        "tid": "thread.id",
        "cid": "nginx.connection",
        "message": "body",
        "server": "nginx.server_name",
        "host": "server.address",
        "upstream": "nginx.upstream",
        "excess": "nginx.limit.excess",
        "zone": "nginx.limit.zone",
    }
    for name, value in expected.items():
        if name in names:
            facts[names[name]] = _said(value)
    if "zone" in expected:  # theirs ends before the values that are fields too
        facts["body"] = f"{facts['body']}, excess: "
    if "request" in expected:
        facts.update(_request(expected["request"]))
    if "timestamp" in expected:
        facts["ts"] = datetime.fromisoformat(expected["timestamp"].replace("Z", "+00:00")).timestamp()
    assert error or "ts" in facts or not facts
    return facts
