"""What is tried, one step or attempt a row, in terms of site/page.js."""


def rows(table):
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


# What the app does in one tab, what it sees, and what becomes of the session cookie.
APP = rows("""
call("POST", "/users", alice)               | 201                | new
document.cookie                             |                    | kept
whoAmI()                                    | me                 | kept
requestId()                                 | exposed            | kept
call("POST", "/logout")                     | 204                | gone
call("GET", "/me")                          | 401                | none
call("POST", "/login", login)               | 200                | new
reload                                      |                    | kept
whoAmI()                                    | me                 | kept
call("POST", "/me/reauthenticate", again)   | 200                | new
call("PATCH", "/me", profile)               | 200                | kept
whoAmI()                                    | me                 | kept
call("POST", "/logout")                     | 204                | gone
call("GET", "/me")                          | 401                | none
useToken()                                  | 200, 200, 204, 401 | none
""")

# What pages try while somebody is logged in. For a page of an origin that is not allowed, and then
# for one that is: how the service answers each request, and what the page sees. READ stands for the
# answer to a request that reads: SameSite=Lax withholds the cookie from other sites, but not from
# other origins of the service's own site.
ATTEMPTS = rows("""
# fetch, in cors mode: what needs a preflight gets no further than that.
call("POST", "/login", bob)                  | OPTIONS 200, rejected | OPTIONS 200, POST 200, 200
call("POST", "/users", account)              | OPTIONS 200, rejected | OPTIONS 200, POST 201, 201
call("POST", "/logout")                      | POST 403, rejected    | POST 204, 204
call("PATCH", "/me", profile)                | OPTIONS 200, rejected | OPTIONS 200, PATCH 200, 200
call("PUT", "/me/password", change)          | OPTIONS 200, rejected | OPTIONS 200, PUT 200, 200
call("DELETE", "/me")                        | OPTIONS 200, rejected | OPTIONS 200, DELETE 204, 204
call("DELETE", "/me/sessions")               | OPTIONS 200, rejected | OPTIONS 200, DELETE 204, 204
call("GET", "/me")                           | GET READ, rejected    | GET 200, 200
call("GET", "/session")                      | GET READ, rejected    | GET 200, 200
call("POST", "/login", bob, asText)          | POST 403, rejected    | POST 415, 415
# These headers exempt from the rule for origins, since they need a preflight.
call("POST", "/logout", undefined, byKey)    | OPTIONS 200, rejected | OPTIONS 200, POST 204, 204
call("POST", "/logout", undefined, byToken)  | OPTIONS 200, rejected | OPTIONS 200, POST 204, 204
# fetch, in no-cors mode: browsers leave such headers out, refuse methods that forms lack, and keep
# the answer from the page, since its Cross-Origin-Resource-Policy says so.
blind("POST", "/login", bob)                 | POST 403, rejected    | POST 415, rejected
blind("POST", "/users", account)             | POST 403, rejected    | POST 415, rejected
blind("POST", "/logout")                     | POST 403, rejected    | POST 204, rejected
blind("POST", "/logout", undefined, byKey)   | POST 403, rejected    | POST 204, rejected
blind("POST", "/logout", undefined, byToken) | POST 403, rejected    | POST 204, rejected
blind("PATCH", "/me", profile)               | rejected              | rejected
blind("PUT", "/me/password", change)         | rejected              | rejected
blind("DELETE", "/me")                       | rejected              | rejected
blind("DELETE", "/me/sessions")              | rejected              | rejected
blind("GET", "/me")                          | GET READ, rejected    | GET 200, rejected
blind("GET", "/session")                     | GET READ, rejected    | GET 200, rejected
# Forms that submit themselves, in the place of the page.
form("/login", plain, json(bob))             | POST 403, left        | POST 415, left
form("/login", urlencoded, bob)              | POST 403, left        | POST 415, left
form("/login", multipart, bob)               | POST 403, left        | POST 415, left
form("/users", plain, json(account))         | POST 403, left        | POST 415, left
form("/users", urlencoded, account)          | POST 403, left        | POST 415, left
form("/users", multipart, account)           | POST 403, left        | POST 415, left
form("/logout", plain, {})                   | POST 403, left        | POST 204, left
form("/logout", urlencoded, {})              | POST 403, left        | POST 204, left
form("/logout", multipart, {})               | POST 403, left        | POST 204, left
form("/me/password", plain, json(change))    | POST 403, left        | POST 405, left
form("/me/password", urlencoded, change)     | POST 403, left        | POST 405, left
form("/me/password", multipart, change)      | POST 403, left        | POST 405, left
# Without an origin of its own: the browser says "null", which nobody can allow.
hideReferrer(), form("/logout", plain, {})   | POST 403, left        | POST 403, left
sandboxed("/logout")                         | POST 403, rejected    | POST 403, rejected
# So it does after an open redirect of the allowed app.
form(redirect("/logout"), plain, {})         | POST 403, left        | POST 403, left
# Everything else that sends requests. Where a person is taken to, the cookie goes along.
embed("img", "/me")                          | GET READ, error       | GET 200, error
embed("script", "/me")                       | GET READ, error       | GET 200, error
embed("iframe", "/me")                       | GET READ, unreadable  | GET 200, unreadable
peek("/me")                                  | GET 200, unreadable   | GET 200, unreadable
visit("/me")                                 | GET 200, left         | GET 200, left
beacon("/logout")                            | POST 403, queued      | POST 204, queued
""")

# What a page tries whose name was rebound to the service (DNS rebinding), and the status that it sees: for the
# browser it is of the same origin, so that it may send any header without a preflight and read every answer.
REBOUND = rows("""
GET  | /openapi.json    | {}                                                                                      | 200
GET  | /me              | {}                                                                                      | 401
POST | /login           | {}                                                                                      | 403
POST | /users           | {}                                                                                      | 403
POST | /password/forgot | {}                                                                                      | 403
POST | /login           | {"headers": {"x-api-key": "x"}}                                                         | 403
POST | /login           | {"headers": {"authorization": "Bearer x"}}                                              | 403
POST | /login           | {"headers": {"authorization": "Basic YTpi"}}                                            | 403
POST | /login           | {"mode": "no-cors"}                                                                     | 403
POST | /login           | {"mode": "same-origin", "referrerPolicy": "no-referrer"}                                | 403
POST | /login           | {"mode": "same-origin", "referrerPolicy": "no-referrer", "headers": {"x-api-key": "x"}} | 403
""")

# What is tried out in Swagger UI: tag, operation, body, status.
OPERATIONS = rows("""
session | create_user | {"username": "alice", "password": "correct horse battery staple"}   | 201
session | logout      |                                                                     | 204
session | login       | {"identifier": "alice", "password": "correct horse battery staple"} | 200
me      | get_me      |                                                                     | 200
""")
