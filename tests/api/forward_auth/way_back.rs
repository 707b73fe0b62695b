//! Where the login page may lead back to.

use super::production;
use crate::TestApp;

/// The `return_to` of the login page, when a proxy names this URL in either of the two ways.
async fn return_to(app: &TestApp, headers: &[(&str, &str)]) -> Option<String> {
    let mut client = app.anonymous();
    for (name, value) in headers {
        client = client.with(name, value);
    }
    let answer = client.get("/forward-auth?redirect=1").await.status(302);
    let page = url::Url::parse(answer.header("location").unwrap()).unwrap();
    assert_eq!(page.as_str().split('?').next(), Some("https://auth.example.com/login"));
    let mut pairs = page.query_pairs().into_owned();
    assert_eq!(pairs.next(), Some(("theme".to_owned(), "dark".to_owned())));
    let given = pairs.next();
    assert_eq!(pairs.next(), None, "{page}");
    given.map(|(name, value)| {
        assert_eq!(name, "return_to");
        value
    })
}

#[tokio::test]
async fn the_way_back_leads_to_pages_of_ours_alone() {
    let app = TestApp::with(production).await;
    for url in [
        "https://auth.example.com/",
        "https://example.com/a?b=c&return_to=https://evil.example&d=%26",
        "https://app.example.com:8443/",
        "https://a.b.example.com//evil.example/%5C",
        "http://shop.example:8443/cart?a=b",
        "https://app.example.com/?u=user@evil.example",
    ] {
        assert_eq!(return_to(&app, &[("x-original-url", url)]).await.as_deref(), Some(url));
        let (proto, rest) = url.split_once("://").unwrap();
        let (host, uri) = rest.split_at(rest.find('/').unwrap());
        let headers =
            [("x-forwarded-proto", proto), ("x-forwarded-host", host), ("x-forwarded-uri", uri)];
        assert_eq!(return_to(&app, &headers).await.as_deref(), Some(url));
    }
    let default_port = return_to(&app, &[("x-original-url", "https://App.Example.com:443/")]).await;
    assert_eq!(default_port.as_deref(), Some("https://app.example.com/"));
    let long = format!("https://app.example.com/{}", "a".repeat(3072));
    let longer_encoded = format!("https://app.example.com/?{}", "&".repeat(1024));
    for url in [
        "https://evil.example/",
        "http://app.example.com/",
        "https://shop.example:8443/",
        "http://shop.example/",
        "https://notexample.com/",
        "https://example.com.evil.example/",
        "https://evil.example\\.example.com/",
        "https://app.example.com\\@evil.example/",
        "https://app.example.com@evil.example/",
        "https://evil.example@app.example.com/",
        "https://:@app.example.com/",
        "https://app.example.com:443@evil.example/",
        "https://evil.example#.example.com/",
        "https://evil.example?.example.com/",
        "https:app.example.com/",
        "https:/app.example.com/",
        "https:///app.example.com/",
        "https:evil.example",
        "//evil.example/",
        "//app.example.com/",
        "/",
        "\\\\evil.example",
        "javascript://app.example.com/%0aalert(1)",
        "ftp://app.example.com/",
        "wss://app.example.com/",
        "HTTPS://app.example.com/",
        "https://%61pp.example.com/",
        "https://app.example.com./",
        "https://app.example.com\t/",
        "https://app.exam\tple.com/",
        "https://app.example.com/a b",
        "https://app.example.com/\\evil.example",
        "https://app.example.com/\u{fc}",
        "https://app.example.com:99999/",
        "https://[::1]/",
        "",
        &long,
        &longer_encoded,
    ] {
        assert_eq!(return_to(&app, &[("x-original-url", url)]).await, None, "{url}");
    }
    let whole = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example.com"),
        ("x-forwarded-uri", "/a"),
    ];
    for (i, value) in [
        (0, "javascript"),
        (0, "https, http"),
        (0, "https://evil.example/?"),
        (0, ""),
        (1, "evil.example"),
        (1, "app.example.com, evil.example"),
        (1, "evil.example/.example.com"),
        (1, "evil.example#.example.com"),
        (1, "user@app.example.com"),
        (1, ""),
        (2, "@evil.example/"),
        (2, ".evil.example/"),
        (2, ":443@evil.example/"),
        (2, "\\evil.example"),
        (2, "a"),
        (2, ""),
        (2, "https://evil.example/"),
    ] {
        let mut headers = whole;
        headers[i].1 = value;
        assert_eq!(return_to(&app, &headers).await, None, "{headers:?}");
        // One that is given twice is nobody's word.
        let twice = [&whole[..], &[headers[i]]].concat();
        assert_eq!(return_to(&app, &twice).await, None, "{twice:?}");
    }
    assert_eq!(return_to(&app, &[]).await, None);
}
