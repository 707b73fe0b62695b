use std::collections::HashSet;

use portcullis::config::Switch;
use portcullis::openapi;
use reqwest::Method;
use serde_json::Value;

use crate::{Answer, TestApp};

fn document() -> Value {
    serde_json::from_str(&openapi::json().unwrap()).unwrap()
}

/// Whether a call needs a credential, rather than taking one if there is one.
fn is_secured(operation: &Value) -> bool {
    let schemes = operation["security"].as_array();
    schemes.is_some_and(|schemes| schemes.iter().all(|scheme| *scheme != serde_json::json!({})))
}

/// Every operation as (method, path, operation).
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations
                .map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation))
        })
        .collect()
}

#[test]
fn the_committed_document_is_what_the_handlers_say() {
    let committed = include_str!("../../openapi/openapi.json");
    let advice = "it differs: cargo run -- openapi > openapi/openapi.json";
    assert!(committed == openapi::json().unwrap(), "{advice}");
}

/// Generators make a field with a default required.
#[test]
fn no_field_of_a_request_has_a_default() {
    let document = document();
    let mut checked = 0;
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(name) = schema["$ref"].as_str() else { continue };
        let schema = document.pointer(name.trim_start_matches('#')).unwrap();
        for (field, schema) in schema["properties"].as_object().unwrap() {
            assert!(schema.get("default").is_none(), "{method} {path}: {field}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn no_schema_repeats_another_one_in_an_array_or_is_an_object_without_members() {
    fn check(place: &str, schema: &Value) {
        let is_closed = schema["type"] == "object"
            && schema.get("properties").is_none()
            && schema.get("additionalProperties").is_none();
        assert!(!is_closed, "{place}: generators make a type without members of it");
        let items = &schema["items"];
        assert!(items.get("properties").is_none(), "{place}: refer to the schema of the items");
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{place}.{name}"), schema);
        }
    }
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        check(name, schema);
    }
}

#[test]
fn problem_code_lists_every_documented_code_and_nothing_refers_to_it() {
    let document = document();
    let listed = document["components"]["schemas"]["ProblemCode"]["enum"].as_array().unwrap();
    let listed: HashSet<_> = listed.iter().map(|code| code.as_str().unwrap()).collect();
    let mut documented = HashSet::from(["not_found", "method_not_allowed"]);
    for (_, _, operation) in operations(&document) {
        for response in operation["responses"].as_object().unwrap().values() {
            let problem = &response["content"]["application/problem+json"];
            documented.extend(
                problem["examples"].as_object().into_iter().flatten().map(|(code, _)| &**code),
            );
        }
    }
    assert_eq!(listed, documented);
    assert!(!document.to_string().contains("schemas/ProblemCode"));
    assert!(
        document["components"]["schemas"]["Problem"]["properties"]["code"].get("enum").is_none()
    );
}

#[test]
fn swagger_ui_begins_with_the_registration_and_the_login() {
    let document = document();
    let tags = document["tags"].as_array().unwrap();
    assert_eq!(
        (&tags[0]["name"], &tags.last().unwrap()["name"]),
        (&Value::from("session"), &Value::from("service"))
    );
    // Swagger UI shows the calls of a tag in the order of the text.
    let text = openapi::json().unwrap();
    let place = |id: &str| text.find(&format!("\"operationId\": \"{id}\"")).unwrap();
    let operations = operations(&document);
    let operations = operations.iter().filter(|(_, _, call)| call["tags"][0] == "session");
    let mut ids: Vec<_> =
        operations.map(|(_, _, call)| call["operationId"].as_str().unwrap()).collect();
    ids.sort_by_key(|id| place(id));
    assert_eq!(ids[..2], ["create_user", "login"]);
}

#[tokio::test]
async fn the_document_and_swagger_ui_are_served_from_the_binary() {
    let app = TestApp::start().await;
    let client = app.anonymous();
    let answer = client.get("/openapi.json").await.status(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.body, document());
    let root = client.get("/").await.status(307);
    assert_eq!(root.header("location"), Some("/swagger-ui/"));
    let short = client.get("/swagger-ui").await;
    assert_eq!((short.code / 100, short.header("location")), (3, Some("/swagger-ui/")));
    let page = client.get("/swagger-ui/").await.status(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(!page.text.contains("https://"), "an asset from elsewhere: {}", page.text);
    let script = client.get("/swagger-ui/swagger-ui-bundle.js").await.status(200);
    assert!(script.text.len() > 500_000);
    let asks = async |accept: &str| {
        let path = "/swagger-ui/swagger-ui.css";
        let request = reqwest::Client::builder().gzip(false).build().unwrap();
        let request = request.get(format!("{}{path}", app.base)).header("accept-encoding", accept);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["vary"], "accept-encoding");
        let coding = answer.headers().get("content-encoding").cloned();
        (coding, answer.bytes().await.unwrap())
    };
    let (coding, compressed) = asks("gzip").await;
    assert_eq!(coding.unwrap(), "gzip");
    for accept in ["", "identity", "gzip;q=0", "br"] {
        let (coding, plain) = asks(accept).await;
        assert!(coding.is_none() && plain.len() > 3 * compressed.len(), "{accept}");
        assert!(plain.starts_with(b".swagger-ui"), "{accept}");
    }
    let start = client.get("/swagger-ui/swagger-initializer.js").await.status(200);
    assert!(start.text.contains("/openapi.json"), "{}", start.text);
}

#[tokio::test]
async fn swagger_ui_and_the_document_can_be_turned_off() {
    let app = TestApp::with(|config| config.swagger_ui = Switch::Off).await;
    let client = app.anonymous();
    for path in [
        "/",
        "/openapi.json",
        "/swagger-ui",
        "/swagger-ui/",
        "/swagger-ui/index.html",
        "/swagger-ui/swagger-ui-bundle.js",
    ] {
        client.get(path).await.problem(404, "not_found");
        Answer::to(client.request(Method::OPTIONS, path)).await.problem(404, "not_found");
    }
    client.get("/healthz").await.ok();
}

#[tokio::test]
async fn every_secured_operation_asks_who_is_calling() {
    let app = TestApp::start().await;
    let document = document();
    let mut asked = 0;
    for (method, path, operation) in operations(&document) {
        let secured = is_secured(operation);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = path.replace("{id}", "01a1fdbe-c128-7060-b598-5638a5c14638");
        let request = app.anonymous().request(method.clone(), &path).json(&serde_json::json!({}));
        let answer = Answer::to(request).await;
        if secured {
            answer.problem(401, "unauthenticated");
            asked += 1;
        } else {
            assert_ne!(answer.body["code"], "unauthenticated", "{method} {path}");
        }
    }
    assert!(asked >= 5, "{asked}");
}

#[test]
fn every_operation_is_described_in_full() {
    let document = document();
    let mut ids = HashSet::new();
    for (method, path, operation) in operations(&document) {
        let call = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{call}");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{call}");
        let summary = operation["summary"].as_str().unwrap();
        assert!(!summary.is_empty() && !summary.ends_with('.'), "{call}");
        assert!(operation["description"].as_str().is_some_and(|text| text.len() > 10), "{call}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{call}");
        assert!(responses.contains_key("500"), "{call}");
        for (status, response) in responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{call} {status}");
            assert!(response["headers"]["x-request-id"].is_object(), "{call} {status}");
            let content = response["content"].as_object();
            if status.as_str() >= "400" {
                let problem = &content.unwrap()["application/problem+json"];
                assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{call}");
                for (code, example) in problem["examples"].as_object().unwrap() {
                    assert_eq!(example["value"]["code"], *code, "{call}");
                    assert_eq!(example["value"]["status"].to_string(), *status, "{call}");
                }
            } else {
                // Two of the calls that send a mail give the client a secret as well.
                let has_none = match status.as_str() {
                    "202" => !matches!(&*path, "/users" | "/login/code"),
                    status => matches!(status, "204" | "302" | "303") || path == "/forward-auth",
                };
                assert_eq!(content.is_none(), has_none, "{call} {status}");
            }
        }
        let reads = operation["requestBody"].is_object();
        for status in ["400", "413", "415", "422"] {
            assert!(!reads || responses.contains_key(status), "{call} {status}");
        }
        assert!(!is_secured(operation) || responses.contains_key("401"), "{call}");
        if let Some(schemes) = operation["security"].as_array() {
            for scheme in ["cookie", "bearer"] {
                assert!(
                    schemes.iter().any(|given| given.get(scheme).is_some()),
                    "{call}: {scheme}"
                );
            }
        }
    }
}

#[test]
fn generated_clients_find_no_riddles() {
    let document = document();
    let text = document.to_string();
    for riddle in ["\"oneOf\"", "\"anyOf\"", "\"allOf\""] {
        assert!(!text.contains(riddle), "{riddle}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("\"$ref\":\"#/components/schemas/") {
        let (name, after) = after.split_once('"').unwrap();
        assert!(schemas.contains_key(name), "{name} is referred to and not there");
        rest = after;
    }
    for (name, field) in [("Registered", "session"), ("Current", "session"), ("Problem", "errors")]
    {
        let required = schemas[name]["required"].as_array().unwrap();
        assert!(!required.iter().any(|name| name == field), "{name}.{field} may be absent");
    }
    for name in ["User", "Session", "LoggedIn", "Page_User", "ApiToken", "AuditEvent"] {
        let schema = &schemas[name];
        let required = schema["required"].as_array().unwrap();
        for (field, property) in schema["properties"].as_object().unwrap() {
            assert!(required.iter().any(|name| name == field), "{name}.{field} is always there");
            assert!(
                property["description"].is_string() || property["$ref"].is_string(),
                "{name}.{field}"
            );
        }
    }
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes["cookie"]["in"], "cookie");
    assert_eq!(schemes["bearer"]["scheme"], "bearer");
}
