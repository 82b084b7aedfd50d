use super::super::file::testing::{OTP_SECRET, PASSWORD, entry, load};
use super::super::{LOCK_TIME, MAX_FAILURES, OtpSecret, require_session};
use super::*;
use crate::http::testing::{ask, get};
use axum::Router;
use axum::http::header::AUTHORIZATION;
use std::sync::atomic::{AtomicI64, Ordering};

struct Setting {
    now: Arc<AtomicI64>,
    authenticator: Arc<Authenticator>,
}

fn setting() -> Setting {
    let lan = entry("lan", &format!("roles = [\"author\", \"approver\"]\notp_secret = {OTP_SECRET:?}"));
    let accounts = load(&(lan + &entry("minh", "roles = [\"author\"]"))).expect("loads");
    let now = Arc::new(AtomicI64::new(1_700_000_000_000));
    let clock: Clock = {
        let now = Arc::clone(&now);
        Arc::new(move || now.load(Ordering::Relaxed))
    };
    let authenticator = Authenticator::new(accounts, SessionLimits::default(), clock).expect("authenticator");
    Setting { now, authenticator: Arc::new(authenticator) }
}

impl Setting {
    fn pass(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_millis()).expect("fits"), Ordering::Relaxed);
    }

    async fn check(&self, name: &str, password: &str) -> Result<(), LoginRefusal> {
        self.authenticator.check_password(name, password).await.map(drop)
    }
}

#[tokio::test]
async fn a_session_begins_with_a_password_and_ends_with_logout() {
    let Setting { authenticator, .. } = setting();
    let (principal, session) = authenticator.login("lan", PASSWORD).await.expect("logs in");
    assert_eq!((principal.name.as_str(), principal.area.as_str()), ("lan", "31"));
    assert!(principal.has_role("approver") && principal.require_role("admin").is_err());
    assert_eq!(authenticator.authenticate(&session.token), Some(principal));
    assert!(!format!("{session:?}").contains(&session.token));
    assert_eq!(authenticator.logout(&session.token).as_deref(), Some("lan"));
    assert_eq!(authenticator.authenticate(&session.token), None);
}

#[tokio::test]
async fn repeated_failures_lock_known_and_unknown_names_alike() {
    let setting = setting();
    for name in ["lan", "nobody"] {
        for _ in 0..MAX_FAILURES {
            assert_eq!(setting.check(name, "sai mật khẩu").await, Err(LoginRefusal::Wrong), "{name}");
        }
        let locked = Err(LoginRefusal::Locked { wait: LOCK_TIME });
        assert_eq!(setting.check(name, PASSWORD).await, locked, "{name}");
    }
    assert!(setting.check("minh", PASSWORD).await.is_ok());
    setting.pass(LOCK_TIME);
    assert!(setting.check("lan", PASSWORD).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_guesses_do_not_outrun_the_lock() {
    let setting = Arc::new(setting());
    let guesses: Vec<_> = (0..20)
        .map(|number| {
            let setting = Arc::clone(&setting);
            tokio::spawn(async move { setting.check("lan", &format!("đoán lần {number}")).await })
        })
        .collect();
    let mut wrong = 0;
    for guess in guesses {
        match guess.await.expect("task") {
            Err(LoginRefusal::Wrong) => wrong += 1,
            Err(LoginRefusal::Locked { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(wrong, MAX_FAILURES);
}

#[tokio::test]
async fn a_code_is_good_once_and_guessing_locks() {
    let setting = setting();
    let authenticator = &setting.authenticator;
    let secret = OtpSecret::from_base32(OTP_SECRET).expect("secret");
    let code = |setting: &Setting| secret.code_at(setting.now.load(Ordering::Relaxed));
    let first = code(&setting);
    assert_eq!(authenticator.verify_otp("lan", &first).await, Ok(()));
    assert_eq!(authenticator.verify_otp("lan", &first).await, Err(LoginRefusal::WrongCode));
    setting.pass(Duration::from_secs(30));
    assert_eq!(authenticator.verify_otp("lan", &code(&setting)).await, Ok(()));
    for name in ["minh", "nobody"] {
        assert_eq!(authenticator.verify_otp(name, "000000").await, Err(LoginRefusal::NoCodes));
    }
    for _ in 0..MAX_FAILURES {
        assert_eq!(authenticator.verify_otp("lan", "x").await, Err(LoginRefusal::WrongCode));
        assert!(setting.check("lan", PASSWORD).await.is_ok(), "which resets nothing");
    }
    setting.pass(Duration::from_secs(30));
    assert!(matches!(authenticator.verify_otp("lan", &code(&setting)).await, Err(LoginRefusal::Locked { .. })));
}

#[tokio::test]
async fn strangers_who_lock_a_name_do_not_stop_its_owner() {
    let setting = setting();
    let (_, session) = setting.authenticator.login("lan", PASSWORD).await.expect("logs in");
    for _ in 0..=MAX_FAILURES {
        assert!(setting.check("lan", "sai mật khẩu").await.is_err());
    }
    assert!(setting.authenticator.authenticate(&session.token).is_some());
    let secret = OtpSecret::from_base32(OTP_SECRET).expect("secret");
    let code = secret.code_at(setting.now.load(Ordering::Relaxed));
    assert_eq!(setting.authenticator.verify_otp("lan", &code).await, Ok(()));
}

#[tokio::test]
async fn new_accounts_end_the_sessions_they_should() {
    let Setting { authenticator, .. } = setting();
    let (_, lan) = authenticator.login("lan", PASSWORD).await.expect("logs in");
    let (_, minh) = authenticator.login("minh", PASSWORD).await.expect("logs in");
    let minh_hash = authenticator.account("minh").expect("there").hash.to_string();
    let kept =
        format!("[[account]]\nname = \"minh\"\npassword_hash = {minh_hash:?}\nroles = [\"approver\"]\narea = \"1\"\n");
    // Same name, another salt: another password as far as anybody can tell.
    authenticator.replace_accounts(load(&(entry("lan", "roles = [\"author\"]") + &kept)).expect("loads"));
    assert_eq!(authenticator.authenticate(&lan.token), None);
    assert!(authenticator.authenticate(&minh.token).expect("kept").has_role("approver"));
    assert_eq!(authenticator.revoke("minh"), 1);
    assert_eq!(authenticator.authenticate(&minh.token), None);
}

#[tokio::test]
async fn requests_need_a_session() {
    let Setting { authenticator, .. } = setting();
    let router = Router::new()
        .route("/me", axum::routing::get(|who: Principal| async move { axum::Json(who.name) }))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&authenticator), require_session));
    let open = Router::new().route("/me", axum::routing::get(|who: Principal| async move { who.name }));
    let (_, session) = authenticator.login("lan", PASSWORD).await.expect("logs in");
    let with = |value: &str| {
        let mut request = get("/me");
        request.headers_mut().insert(AUTHORIZATION, value.parse().expect("header"));
        request
    };
    let (status, body) = ask(&router, with(&format!("Bearer {}", session.token))).await;
    assert_eq!((status, body), (StatusCode::OK, "lan".into()));
    for bad in ["Bearer x", &format!("Basic {}", session.token), &session.token, "Bearer"] {
        assert_eq!(ask(&router, with(bad)).await.0, StatusCode::UNAUTHORIZED, "{bad}");
    }
    assert_eq!(ask(&router, get("/me")).await.0, StatusCode::UNAUTHORIZED);
    let forgotten = ask(&open, with(&format!("Bearer {}", session.token))).await;
    assert_eq!(forgotten.0, StatusCode::UNAUTHORIZED, "without the middleware nobody is logged in");
}

#[test]
fn refusals_become_answers() {
    let locked = ApiError::from(LoginRefusal::Locked { wait: Duration::from_secs(61) });
    assert_eq!((locked.status(), locked.code()), (StatusCode::TOO_MANY_REQUESTS, "locked"));
    assert!(locked.message().contains("2 phút"));
    assert_eq!(ApiError::from(LoginRefusal::Wrong).status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ApiError::from(LoginRefusal::Busy).status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn the_section_describes_it_all() {
    let folder = tempfile::tempdir().expect("folder");
    let section = folder.path().join("section.toml");
    std::fs::write(&section, "file = 'accounts.toml'\nidle_minutes = 5\n").expect("write");
    std::fs::write(folder.path().join("accounts.toml"), entry("lan", "roles = [\"author\"]")).expect("write");
    let config: AccountsConfig = crate::config::load(&section).expect("loads");
    let limits = SessionLimits::from(&config);
    assert_eq!((limits.idle, limits.absolute), (Duration::from_secs(300), SessionLimits::default().absolute));
    let clock = crate::clock::system();
    assert!(Authenticator::from_config(&config, &["author"], Arc::clone(&clock)).is_ok());
    assert!(matches!(Authenticator::from_config(&config, &["king"], clock), Err(AccountsError::Account { .. })));
}
