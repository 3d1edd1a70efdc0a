"""Auto-instrumentation: a program, and all Python programs that it starts, record their requests and logs.

`command` is ``eventstorm-instrument``. It asks the entry points once what there is to instrument (`table`), leaves that
and the folder `bootstrap` in the environment, and becomes the program. Each interpreter that starts then imports
`bootstrap/sitecustomize.py`, which installs `hooks`: the import of a framework brings its integration with it.

Nothing more than this module, `table` and `hooks` is imported before that, and these import nothing themselves: an
interpreter that uses no framework pays for a look at a dictionary with each import. That is why there is no `wrapt`
here, whose import costs more than that of the whole SDK.
"""
