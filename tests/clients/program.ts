// Uses the client that openapi-typescript generates: from the registration to the logout.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/schema.js";

type ProblemCode = components["schemas"]["ProblemCode"];

const baseUrl = process.argv[2];
assert(baseUrl, "usage: program URL");
const password = "correct horse battery staple";
const identifier = "alice-typescript";

const anonymous = createClient<paths>({ baseUrl });
const registered = await anonymous.POST("/users", {
  body: { username: identifier, password, transport: "token" },
});
// A 202 has no login: the service may hide which addresses are taken.
assert(registered.data && "user" in registered.data, JSON.stringify(registered.error));
assert(registered.data.token);

const headers = { authorization: `Bearer ${registered.data.token}` };
const alice = createClient<paths>({ baseUrl, headers });
const me = await alice.GET("/me");
assert.equal(me.data?.username, identifier);
assert.equal(me.data.must_change_password, false);

const sessions = await alice.GET("/me/sessions");
const session: components["schemas"]["Session"] | undefined = sessions.data?.items[0];
assert.equal(session?.current, true);

const wrong = await anonymous.POST("/login", { body: { identifier, password: "wrong" } });
const code: string | undefined = wrong.error?.code;
const expected: ProblemCode = "invalid_credentials";
assert.equal(code, expected);

// As the README shows it: nothing but a name.
const created = await alice.POST("/me/tokens", { body: { name: "backup" } });
assert(created.data, JSON.stringify(created.error));
assert.deepEqual(created.data.api_token.scopes, ["read"]);
const program = createClient<paths>({ baseUrl, headers: { "x-api-key": created.data.token } });
assert.equal((await program.GET("/me")).data?.username, identifier);

const activity = await alice.GET("/me/activity");
const details: components["schemas"]["AuditEvent"]["details"] = { transport: "token" };
const login = activity.data?.items.find((event) => event.kind === "logged_in");
assert.equal(login?.details["transport"], details["transport"]);

assert.equal((await alice.POST("/logout")).response.status, 204);
const after = await alice.GET("/me");
assert.equal(after.response.status, 401);
assert.equal(after.error?.code, "session_expired");
console.log("ok   the TypeScript client registers, logs in, creates an API token and logs out");
