"""A setting is a keyword, a variable or a line of a file; what is wrong is said with its place."""

from __future__ import annotations

import textwrap

import pytest

from eventstorm.config_file import check_file, check_variables
from eventstorm.errors import SettingError
from eventstorm.settings import SdkSettings, load


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes eventstorm.toml, which is then the one in use."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = tmp_path / "eventstorm.toml"
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    return write


def test_keyword_beats_variable_beats_file_beats_default(write, monkeypatch):
    write('[sdk]\nhost = "file"\nservice = "file"\nendpoint = "tcp://file:1"')
    monkeypatch.setenv("EVENTSTORM_HOST", "variable")
    monkeypatch.setenv("EVENTSTORM_SERVICE", "variable")
    settings = load(SdkSettings, "sdk", {"host": "keyword", "service": None})
    assert (settings.host, settings.service, settings.endpoint) == ("keyword", "variable", "tcp://file:1")
    assert settings.egress == "tcp://127.0.0.1:5551"


@pytest.mark.parametrize("text", ["1", "true", "YES", "On"])
def test_variables_say_yes_in_many_ways(monkeypatch, text):
    monkeypatch.setenv("EVENTSTORM_ENABLED", text)
    assert load(SdkSettings, "sdk", {}).enabled is True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enabled", "maybe"),
        ("batch_bytes", "1.5"),
        ("batch_bytes", ""),
        ("batch_bytes", "1"),
        ("linger_s", "nan"),
        ("linger_s", "inf"),
        ("linger_s", "-1"),
        ("endpoint", "127.0.0.1:5550"),
        ("egress", "tcp://host"),
        ("service", "x" * 256),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch, name, value):
    monkeypatch.setenv(f"EVENTSTORM_{name.upper()}", value)
    with pytest.raises(SettingError, match=rf"^EVENTSTORM_{name.upper()}: "):
        load(SdkSettings, "sdk", {})


def test_an_unknown_keyword_names_the_nearest():
    with pytest.raises(SettingError, match="did you mean 'service'"):
        load(SdkSettings, "sdk", {"servcie": "x"})


def test_the_variable_for_the_file_must_name_one(monkeypatch, tmp_path):
    monkeypatch.setenv("EVENTSTORM_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingError, match="EVENTSTORM_CONFIG: there is no file"):
        load(SdkSettings, "sdk", {})


FAULTS = {
    "unknown setting": ('[sdk]\n\nhots = "a"', 3, "did you mean 'host'"),
    "unknown table": ('[sdk]\nhost = "a"\n[rooter]\nx = 1', 3, "did you mean 'router'"),
    "wrong type": ("[router]\n# hwm = 2\nhwm = 1.5", 3, "router.hwm: 1.5 is not a whole number"),
    "a number in quotes": ('[router]\nhwm = "5"', 2, "write a whole number without quotes"),
    "a boolean for a number": ("[router]\nhwm = true", 2, "not a whole number"),
    "a number for a boolean": ("[router]\ninsecure = 1", 2, "not true or false"),
    "a date for a text": ("[sdk]\nhost = 2020-01-01", 2, "not a text"),
    "mixed list": ('[router]\nupstream = ["tcp://a:1", 2]', 2, "not a list of texts"),
    "list over lines": ('[router]\nhwm = 1\nupstream = [\n  "tcp://a:1",\n  "b",\n]', 3, "'b' is no endpoint"),
    "inline table": ("x = 1\nrouter = { hwm = 0 }", 2, "0 is not from 1"),
    "dotted keys": ("# c\nrouter.stats_s = 1\nrouter.hwm = 0", 3, "0 is not from 1"),
    "quoted table": ('["router"]\n"hwm" = 0', 2, "0 is not from 1"),
    "within a text": ('[sdk]\nservice = """\nhwm = 1\n[router]\n"""\n[router]\nhwm = 0', 7, "0 is not from 1"),
    "not a table": ('router = "x"', 1, "'router' is not a table; write [router]"),
    "array of tables": ("[[router]]\nhwm = 1", 1, "'router' is not a table; write [router]"),
    "table twice": ("[sdk]\n[router]\n[sdk]", 3, "not TOML"),
    "setting twice": ('[sdk]\nhost = "a"\nhost = "b"', 3, "not TOML"),
    "not TOML": ("[sdk]\nhost = \n", 2, "not TOML"),
    "not UTF-8": (b'[sdk]\n\nhost = "\xff"', 3, "not UTF-8"),
    "UTF-16": ("[sdk]".encode("utf-16"), 1, "not UTF-8"),
    "windows' line ends": (b"\xef\xbb\xbf[router]\r\n\r\nhwm = 0\r\n", 3, "0 is not from 1"),
}


@pytest.mark.parametrize(("text", "line", "said"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_in_a_file_is_told_with_its_line(write, text, line, said):
    problems = [each for each in check_file(write(text)) if said in each.text]
    assert [each.line for each in problems] == [line]
    assert f"eventstorm.toml, line {line}: " in str(problems[0])


def test_loading_tells_the_same_as_checking(write):
    path = write("[sdk]\n\nbatch_bytes = 1\n")
    with pytest.raises(SettingError) as caught:
        load(SdkSettings, "sdk", {})
    assert str(caught.value).endswith(str(check_file(path)[0]).partition("eventstorm.toml")[2])


def test_all_faults_are_told_in_order(write):
    found = check_file(write('[zzz]\n[router]\nhwm = 0\nxyz = 1\n[sdk]\nendpoint = "x"\n'))
    assert [each.line for each in found] == [1, 3, 4, 6]


def test_other_parts_faults_do_not_stop_one(write):
    write('[router]\nhwm = 0\n[sdk]\nhost = "a"\n')
    assert load(SdkSettings, "sdk", {}).host == "a"


@pytest.mark.parametrize(
    "text",
    ["", "# nothing", "\ufeff[sdk]\nhost = 'a'", "[sdk]\nlinger_s = 1", '[router]\nupstream = "tcp://a:1"', "[router]"],
)
def test_what_is_right_is_right(write, text):
    assert check_file(write(text)) == []


def test_a_single_text_is_a_list_of_one(write):
    from eventstorm_router import RouterSettings

    write('[router]\nupstream = "tcp://a:1"')
    assert load(RouterSettings, "router", {}).upstream == ("tcp://a:1",)


def test_variables_are_checked_and_unknown_ones_told():
    environ = {"EVENTSTORM_SERVIC": "x", "EVENTSTORM_ROUTER_HWM": "0", "EVENTSTORM_HOST": "ok", "OTHER": ""}
    wrong, unknown = check_variables(environ)
    assert [str(each) for each in wrong] == ["EVENTSTORM_ROUTER_HWM: 0 is not from 1 to 1000000"]
    assert [str(each) for each in unknown] == ["EVENTSTORM_SERVIC: no setting's name; did you mean EVENTSTORM_SERVICE?"]
