"""Uses the client that openapi-python-client generates: from the registration to the logout."""

import sys
from typing import cast

from portcullis_client import AuthenticatedClient, Client
from portcullis_client.api.me import create_my_token, get_me, list_my_activity, list_my_sessions
from portcullis_client.api.session import create_user, login, logout
from portcullis_client.models import CreateToken, CreateUser, Login, NewToken, PageSession, Problem, ProblemCode, Scope, Transport, User
from portcullis_client.models.page_audit_event import PageAuditEvent
from portcullis_client.models.registered import Registered

PASSWORD = "correct horse battery staple"
IDENTIFIER = "alice-python"


def main(url: str) -> None:
    anonymous = Client(base_url=url)
    new = CreateUser(username=IDENTIFIER, password=PASSWORD, transport=Transport.TOKEN)
    # The generator wants a credential wherever one may be sent. Registration needs none.
    registered = create_user.sync(client=cast(AuthenticatedClient, anonymous), body=new)
    assert isinstance(registered, Registered) and registered.token, registered

    alice = AuthenticatedClient(base_url=url, token=registered.token)
    me = get_me.sync(client=alice)
    assert isinstance(me, User) and me.username == IDENTIFIER, me
    assert me.must_change_password is False

    sessions = list_my_sessions.sync(client=alice)
    assert isinstance(sessions, PageSession) and sessions.items[0].current, sessions

    wrong = login.sync(client=anonymous, body=Login(identifier=IDENTIFIER, password="wrong"))
    assert isinstance(wrong, Problem), wrong
    assert ProblemCode(wrong.code) is ProblemCode.INVALID_CREDENTIALS

    # As the README shows it: nothing but a name.
    created = create_my_token.sync(client=alice, body=CreateToken(name="backup"))
    assert isinstance(created, NewToken) and created.api_token.scopes == [Scope.READ], created
    program = AuthenticatedClient(base_url=url, token=created.token, prefix="", auth_header_name="X-API-Key")
    known = get_me.sync(client=program)
    assert isinstance(known, User) and known.id == me.id, known

    activity = list_my_activity.sync(client=alice)
    assert isinstance(activity, PageAuditEvent) and isinstance(activity.items[0].details.to_dict(), dict), activity

    assert logout.sync_detailed(client=alice).status_code == 204
    after = get_me.sync(client=alice)
    assert isinstance(after, Problem) and after.code == "session_expired", after
    print("ok   the Python client registers, logs in, creates an API token and logs out")


main(sys.argv[1])
