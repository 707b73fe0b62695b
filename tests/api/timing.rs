//! Whether the time of an answer tells that an account exists.

use std::time::{Duration, Instant};

use portcullis::config::Switch;
use serde_json::json;

use crate::TestApp;

/// Tries of each kind.
const TRIES: usize = 500;

/// The two-sided p-value of the Mann-Whitney U test (normal approximation), and how often a value of
/// the first sample is above one of the second: one half when they are alike.
fn mann_whitney(first: &[Duration], second: &[Duration]) -> (f64, f64) {
    let tagged = |sample: &[Duration], is_first| {
        sample.iter().map(move |value| (*value, is_first)).collect::<Vec<_>>()
    };
    let mut all = [tagged(first, true), tagged(second, false)].concat();
    all.sort_unstable();
    // Ties are too rare among nanoseconds to matter.
    let ranks: usize =
        all.iter().enumerate().filter(|(_, value)| value.1).map(|(rank, _)| rank + 1).sum();
    let (n, m) = (first.len() as f64, second.len() as f64);
    let u = ranks as f64 - n * (n + 1.0) / 2.0;
    let z = (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt();
    (erfc(z.abs() / std::f64::consts::SQRT_2), u / (n * m))
}

/// The complementary error function (Abramowitz and Stegun 7.1.26; good to 1.5e-7).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    polynomial.iter().fold(0.0, |sum, factor| (sum + factor) * t) * (-x * x).exp()
}

#[test]
fn the_rank_test_tells_samples_apart_that_differ_and_no_others() {
    let sample =
        |start: u64| (0..500u64).map(move |n| Duration::from_nanos(start + n * 7919 % 1009));
    let (alike, other) = (sample(0).collect::<Vec<_>>(), sample(100).collect::<Vec<_>>());
    let (p, half) = mann_whitney(&alike, &alike);
    assert!(p > 0.9 && (half - 0.5).abs() < 0.01, "{p} {half}");
    let (p, more) = mann_whitney(&other, &alike);
    assert!(p < 1e-6 && more > 0.58, "{p} {more}");
    assert!((erfc(1.0) - 0.157_299_207).abs() < 1e-6);
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_that_an_account_exists() {
    let app = TestApp::with(|config| {
        config.throttle = Switch::Off;
        config.bcrypt_cost = 6;
    });
    let app = app.await;
    let user = app.user().await;
    let client = app.anonymous();
    let time = async |name: &str, password: &str| {
        let login = json!({"identifier": name, "password": password});
        let start = Instant::now();
        client.post("/login", login).await.problem(401, "invalid_credentials");
        start.elapsed()
    };
    for password in ["a wrong password".to_owned(), "long ".repeat(204)] {
        // In turns, so that whatever else the machine does meets both.
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..TRIES {
            known.push(time(user.username(), &password).await);
            unknown.push(time("user-0123456789ab", &password).await);
        }
        let (p, above) = mann_whitney(&known, &unknown);
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[TRIES / 2]
        };
        println!(
            "{TRIES} tries each, {} bytes: p = {p:.3}, known above unknown {above:.3}, medians {:?} \
             and {:?}",
            password.len(),
            median(&mut known),
            median(&mut unknown),
        );
        // Six standard deviations: what is alike never comes there, and a millisecond at once does.
        assert!((above - 0.5).abs() < 0.11, "p = {p}, {above}");
    }
}
