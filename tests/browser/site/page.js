// What a page can try on the service. Each function says what the page could see of the answer.
"use strict";

const parameters = new URLSearchParams(location.search);
const service = parameters.get("service");
const app = parameters.get("app");
const password = parameters.get("password");

// The person in front of the browser is named by the fragment, which can change in an open page.
const username = () => location.hash.slice(1);
const alice = { get username() { return username(); }, password };
const login = { get identifier() { return username(); }, password };
const again = { password };
// The password is given as right even where a hostile page would have to guess it.
const bob = { identifier: "bob", password };
const profile = { name: "Bob" };
const change = { current_password: password, new_password: `${password}, changed` };
const account = { username: `bob-${Date.now()}`, password };

const byKey = { headers: { "x-api-key": "x" } };
const byToken = { headers: { authorization: "Bearer x" } };
const asText = { headers: { "content-type": "text/plain" } };
const plain = "text/plain";
const urlencoded = "application/x-www-form-urlencoded";
const multipart = "multipart/form-data";

// The call that README.md shows to single-page apps; every preflight is to reach the service, so
// none is cached.
const api = (method, path, body, options) =>
  fetch(new URL(path, service), {
    method,
    credentials: "include",
    headers: body && { "content-type": "application/json" },
    body: body && JSON.stringify(body),
    cache: "no-store",
    ...options,
  });

const read = async (path) => (await api("GET", path)).json();

const whoAmI = async () =>
  (await read("/session")).user?.username === username() ? "me" : "not me";

// Also from another device, so that there are other sessions to lose.
async function register() {
  await api("POST", "/users", alice);
  await api("POST", "/login", { ...login, transport: "token" }, { credentials: "omit" });
  return whoAmI();
}

const requestId = async () =>
  (await api("GET", "/me")).headers.get("x-request-id") ? "exposed" : "hidden";

async function call(...request) {
  try {
    const answer = await api(...request);
    return answer.type === "opaque" ? "opaque" : String(answer.status);
  } catch {
    return "rejected";
  }
}

const blind = (method, path, body, options) =>
  call(method, path, body, { mode: "no-cors", ...options });

// What an app does that keeps no cookie.
async function useToken() {
  const credentials = "omit";
  const body = { ...login, transport: "token" };
  const answer = await api("POST", "/login", body, { credentials });
  const headers = { authorization: `Bearer ${(await answer.json()).token}` };
  const statuses = [String(answer.status)];
  for (const [method, path] of [["GET", "/me"], ["POST", "/logout"], ["GET", "/me"]]) {
    statuses.push(await call(method, path, undefined, { credentials, headers }));
  }
  return statuses.join(", ");
}

function form(path, enctype, fields) {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: new URL(path, service), enctype });
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  document.body.append(form);
  form.submit();
  return "left";
}

// With no referrer to tell, a form's origin is "null".
function hideReferrer() {
  const meta = Object.assign(document.createElement("meta"), { name: "referrer" });
  document.head.append(Object.assign(meta, { content: "no-referrer" }));
}

// The one field of a text/plain form is sent as `name=value`, so JSON with a "=" in it can be sent.
function json(body) {
  const [name, ...value] = JSON.stringify(body).split("=");
  return { [name]: value.join("=") };
}

const redirect = (path) => `${app}/?to=${encodeURIComponent(service + path)}`;

function text(page) {
  try {
    return page.document.body.innerText;
  } catch {
    return "unreadable";
  }
}

function embed(tag, path) {
  return new Promise((resolve) => {
    const element = document.createElement(tag);
    element.onload = () => resolve(tag === "iframe" ? text(element.contentWindow) : "loaded");
    element.onerror = () => resolve("error");
    element.src = new URL(path, service);
    document.body.append(element);
  });
}

async function peek(path) {
  const popup = open(new URL(path, service));
  // A new window is a blank page first, and that one can be read.
  while (text(popup) === "") {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return text(popup);
}

function visit(path) {
  location = new URL(path, service);
  return "left";
}

function beacon(path) {
  navigator.sendBeacon(new URL(path, service));
  return "queued";
}

function sandboxed(path) {
  return new Promise((resolve) => {
    addEventListener("message", (event) => resolve(event.data), { once: true });
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>
      fetch("${new URL(path, service)}", {
        method: "POST",
        mode: "no-cors",
        credentials: "include",
      }).then(
        (answer) => parent.postMessage(answer.type, "*"),
        () => parent.postMessage("rejected", "*"),
      );
    </script>`;
    document.body.append(frame);
  });
}
