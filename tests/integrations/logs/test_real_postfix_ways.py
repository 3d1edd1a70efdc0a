"""The ways that a message can take through a real Postfix: past filters and logins, and out by each transport."""

from __future__ import annotations

import contextlib
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .dovecot import password_server
from .following import Running
from .milter import milter
from .postfix_server import queued, running_postfix, text_of, told, transactions
from .smtp_proxy import smtp_proxy

pytestmark = pytest.mark.servers

SUBMISSION = (
    "inet n - n - - smtpd -o syslog_name=postfix/submission -o smtpd_sasl_auth_enable=yes -o smtpd_sasl_type=dovecot"
    " -o smtpd_sasl_path={socket} -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
)


def sessions(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sessions, without those of who only looked whether Postfix listens."""
    found = [event["data"] for event in events if event["topic"] == "smtp.session"]
    return [each for each in found if each.get("reason") != "lost connection after CONNECT"]


def test_what_a_milter_refuses_throws_away_or_holds_is_told_so(open_path: Path, follow: Callable[..., Running]) -> None:
    with milter() as port:
        use = f"smtpd_milters=inet:127.0.0.1:{port}"
        services = {"filtered": f"inet n - n - - smtpd -o {use}"}
        with running_postfix(open_path, main=f"non_{use}\n", services=services) as postfix:
            running = follow("postfix", "--print", "--from-start", str(postfix.log))

            def mail(sender: str, *names: str) -> str:
                return postfix.mail(*names, port="filtered", sender=f"{sender}@here.test")

            expect = postfix.expect
            expect(mail("reject-mail", "a_relay"), "rejected")
            expect(mail("tempfail-mail", "a_relay"), "rejected")
            expect(mail("discard-mail", "a_relay"), "discarded")
            for number, deed in enumerate(("reject", "tempfail", "reply")):
                sender = mail(f"alone-{number}", f"{deed}-rcpt_relay")
                expect(sender, "rejected", **{f"{deed}-rcpt_relay": "rejected"})
                # Of a message that is refused at its end, the line names the last recipient alone.
                sender = mail(f"end-{number}", "a_relay", f"{deed}-end_relay")
                expect(sender, "rejected", **{f"{deed}-end_relay": "rejected"})
            expect(
                mail("several", "b_relay", "reject-rcpt_relay", "c_relay"),
                "sent",
                **{"b_relay": "sent", "reject-rcpt_relay": "rejected", "c_relay": "sent"},
            )
            expect(mail("one", "discard-rcpt_relay"), "discarded", **{"discard-rcpt_relay": "discarded"})
            expect(mail("all", "discard-end_relay"), "discarded", **{"discard-end_relay": "discarded"})
            expect(mail("odd", "hold-end_relay"), "sent", **{"hold-end_relay": "sent"})
            (held,) = queued(postfix, "hold")
            postfix.command("postsuper", "-H", held)
            postfix.command("postqueue", "-i", held)
            local = "local@here.test"
            names = ["a@relay.test", "b@relay.test", "reject-end@relay.test"]
            postfix.command("sendmail", "-f", local, *names, text="Subject: local\n\nbody\n")
            expect(local, "rejected", **{name.removesuffix(".test").replace("@", "_"): "bounced" for name in names})
            running.wait(lambda: postfix.has_told(running.events, len(postfix.expected)))
            running.wait(lambda: any(each.get("notification_for") for each in transactions(running.events)))
            running.stop()

    assert sorted(told(running.events)) == sorted(postfix.expected)
    by_sender = {each["from"].partition("@")[0]: each for each in transactions(running.events)}
    told_of = {
        name: (each["stage"], each["by"], each.get("code"), each["dsn"], each["reason"])
        for name, each in by_sender.items()
        if each["outcome"] == "rejected"
    }
    refused, later = "Command rejected", "Service unavailable - try again later"
    said = "not by us: ask <x@y.test> first; from=<z>"
    assert told_of == {
        "reject-mail": ("MAIL", "milter-reject", 550, "5.7.1", refused),
        "tempfail-mail": ("MAIL", "milter-reject", 451, "4.7.1", later),
        "alone-0": ("RCPT", "milter-reject", 550, "5.7.1", refused),
        "alone-1": ("RCPT", "milter-reject", 451, "4.7.1", later),
        "alone-2": ("RCPT", "milter-reject", 554, "5.7.9", said),
        "end-0": ("END-OF-MESSAGE", "milter-reject", None, "5.7.1", refused),
        "end-1": ("END-OF-MESSAGE", "milter-reject", None, "4.7.1", later),
        "end-2": ("END-OF-MESSAGE", "milter-reject", None, "5.7.9", said),
        "local": ("END-OF-MESSAGE", "milter-reject", None, "5.7.1", refused),
    }
    assert by_sender["odd"]["held"] == "milter triggers HOLD action"
    assert len(by_sender["local"]["notifications"]) == 1
    assert not sessions(running.events)
    assert not [each for each in transactions(running.events) if each.get("incomplete")]


def test_who_logged_in_is_told_with_the_message_and_who_could_not_with_the_session(
    open_path: Path, follow: Callable[..., Running]
) -> None:
    with (
        password_server(open_path / "dovecot") as path,
        running_postfix(open_path, services={"submission": SUBMISSION.format(socket=path)}) as postfix,
    ):
        running = follow("postfix", "--print", "--from-start", str(postfix.log))

        def log_in(mechanism: str, password: str, *, goes_on: bool = False) -> None:
            with postfix.client("submission") as client:
                client.ehlo()
                client.user, client.password = "ada@here.test", password
                step = getattr(client, f"auth_{mechanism.lower().replace('-', '_')}")
                if goes_on:
                    with contextlib.suppress(smtplib.SMTPAuthenticationError):
                        client.auth(mechanism, step, initial_response_ok=mechanism == "PLAIN")
                    client.password = "right"
                with contextlib.suppress(smtplib.SMTPAuthenticationError):
                    client.auth(mechanism, step, initial_response_ok=mechanism == "PLAIN")
                    sender = f"{len(postfix.expected)}@here.test"
                    client.sendmail(sender, ["z@elsewhere.test"], text_of(sender))
                    postfix.expect(sender, "sent", z_elsewhere="sent")

        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            log_in(mechanism, "right")
            log_in(mechanism, "wrong")
        log_in("PLAIN", "wrong", goes_on=True)
        postfix.say(
            b"EHLO x\r\n", b"AUTH PLAIN garbage\r\n", b"AUTH NTLM\r\n", b"AUTH PLAIN AGEAYg==\r\n", port="submission"
        )
        postfix.expect(postfix.mail("a_relay", port="submission"), "rejected", a_relay="rejected")
        running.wait(lambda: len(told(running.events)) >= len(postfix.expected) and len(sessions(running.events)) >= 5)
        running.stop()

    assert sorted(told(running.events)) == sorted(postfix.expected)
    sent = sorted((each for each in transactions(running.events) if "sasl" in each), key=lambda each: each["from"])
    assert [each["sasl"] for each in sent] == [
        {"method": method, "username": "ada@here.test"} for method in ("PLAIN", "LOGIN", "CRAM-MD5", "PLAIN")
    ]
    failed = sessions(running.events)
    assert [each["auth"].get("username") for each in failed] == ["ada@here.test"] * 4 + ["a"]
    assert [(each["auth"]["method"], each["auth"]["failures"]) for each in failed] == [
        ("PLAIN", 1),
        ("LOGIN", 1),
        ("CRAM-MD5", 1),
        ("PLAIN", 1),
        ("PLAIN", 3),
    ]
    assert {each["reason"].partition(":")[0] for each in failed} == {"authentication failed"}


def test_a_message_is_told_by_each_transport_with_what_became_of_it(
    open_path: Path, follow: Callable[..., Running]
) -> None:
    with running_postfix(open_path) as postfix:
        running = follow("postfix", "--print", "--from-start", str(postfix.log))
        expect, mail = postfix.expect, postfix.mail
        expect(mail("fine_pipe"), "sent", fine_pipe="sent")
        expect(mail("nobody_pipe"), "bounced", nobody_pipe="bounced")
        expect(mail("later_pipe"), "deleted", later_pipe="deferred")
        expect(mail("killed_pipe", "fine_pipe"), "deleted", killed_pipe="deferred", fine_pipe="sent")
        expect(
            mail("a_lmtp", "late_lmtp", "bad_lmtp"), "partial", a_lmtp="sent", late_lmtp="bounced", bad_lmtp="bounced"
        )
        expect(mail("command_local"), "sent", command_local="sent")
        expect(mail("no-such_local"), "bounced", **{"no-such_local": "bounced"})
        # Local delivery makes another message of what it forwards: of an alias, and of a user's own file.
        sender = mail("list_local")
        expect(sender, "sent", list_local="sent")
        expect(sender, "partial", a_relay="sent", bad_relay="bounced")
        sender = mail("daemon_local")
        expect(sender, "sent", daemon_local="sent")
        expect(sender, "sent", first_relay="sent", second_box="sent")
        running.wait(lambda: len(told(running.events)) >= len(postfix.expected) - 2)
        running.wait(lambda: all(f"to=<{name}@pipe.test>" in postfix.log.read_text() for name in ("later", "killed")))
        for queue_id in queued(postfix):
            postfix.command("postsuper", "-d", queue_id)  # of ALL it would name none
        running.wait(lambda: len(told(running.events)) >= len(postfix.expected))
        running.stop()

    assert sorted(told(running.events)) == sorted(postfix.expected)
    every = {each["queue_id"]: each for each in transactions(running.events)}
    forwarded = [(each, to) for each in every.values() for to in each["recipients"] if "forwarded_as" in to]
    assert len(forwarded) == 2
    for parent, to in forwarded:
        child = every[to["forwarded_as"]]
        assert child["forwarded_from"] == parent["queue_id"]
        assert {each["orig_to"] for each in child["recipients"]} == {to["to"]}
    recipients = {to["to"]: to for each in every.values() for to in each["recipients"]}
    assert recipients["nobody@pipe.test"]["dsn"] == "5.1.1"
    assert "nobody of that name" in recipients["nobody@pipe.test"]["response"]
    assert recipients["later@pipe.test"]["deferrals"] >= 1
    assert "signal 9" in recipients["killed@pipe.test"]["response"]
    assert "end of DATA" in recipients["late@lmtp.test"]["response"]
    assert not [each for each in every.values() if each.get("incomplete")]


def test_a_message_that_goes_out_to_a_filter_and_comes_back_is_told_as_what_the_log_says(
    open_path: Path, follow: Callable[..., Running]
) -> None:
    with smtp_proxy() as before, smtp_proxy() as after:
        services = {
            "before": f"inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:{before.port}",
            "after": f"inet n - n - - smtpd -o content_filter=scan:[127.0.0.1]:{after.port}",
        }
        others = "scan unix - - n - - smtp -o smtp_send_xforward_command=yes\n"
        with running_postfix(open_path, services=services, others=others) as postfix:
            before.goes_on_at(postfix.ports["smtp"])
            after.goes_on_at(postfix.ports["smtp"])
            running = follow("postfix", "--print", "--from-start", str(postfix.log))
            # In front of the queue it is one message, which the smtpd behind the filter queues.
            postfix.expect(postfix.mail("a_relay", port="before"), "sent", a_relay="sent")
            postfix.mail("virus_relay", port="before")  # the log has no sender of it
            # Behind the queue it is delivered to the filter, and comes back as another one.
            sender = postfix.mail("b_relay", port="after")
            postfix.expect(sender, "sent", b_relay="sent")
            postfix.expect(sender, "sent", b_relay="sent")
            postfix.expect(postfix.mail("a_relay", port="before", subject="spam"), "rejected", a_relay="rejected")
            running.wait(lambda: len(told(running.events)) >= len(postfix.expected))
            running.wait(lambda: any(each.get("by") == "proxy-reject" for each in transactions(running.events)))
            running.stop()

    assert sorted(told(running.events)) == sorted(postfix.expected)
    queued = [each for each in transactions(running.events) if "queue_id" in each and each["outcome"] == "sent"]
    (proxied,) = [each for each in queued if each["recipients"][0]["to"] == "a@relay.test"]
    assert proxied["proxy"]["address"] == "127.0.0.1"
    (out,) = [each for each in queued if each["recipients"][0]["relay"].endswith(f":{after.port}")]
    (back,) = [each for each in queued if each.get("orig_queue_id")]
    assert back["orig_queue_id"] == out["queue_id"]
    assert not [each for each in transactions(running.events) if each.get("incomplete")]
    (refused,) = [each for each in transactions(running.events) if each.get("by") == "proxy-reject"]
    assert (refused["stage"], refused["code"], refused["dsn"], refused["reason"]) == ("RCPT", 554, "5.7.1", "filtered")
    assert [each["to"] for each in refused["recipients"]] == ["virus@relay.test"]
    assert refused["client"]["address"] == "127.0.0.1"
