"""This host's system metrics as events: CPU, memory, filesystems, disks, networks, processes, services, sensors.

Each kind of metric is a module with one collector. `sampler` asks those whose topic is wanted, `agent` does that every
second in a thread, `command` is ``eventstorm sysmon``. ``docs/sysmon.md`` in the repository lists the fields.
"""
