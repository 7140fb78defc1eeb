use proptest::prelude::*;

use super::*;

fn refusal<T: FromStr<Err = ValueError> + fmt::Debug>(text: &str) -> String {
    text.parse::<T>().unwrap_err().to_string()
}

#[test]
fn keepalive_times_are_whole_seconds_within_limits() {
    for (text, seconds) in [("1s", 1), ("60s", 60), ("5m", 300), ("1h 30m", 5400), ("32767s", 32767), ("1.5m", 90)] {
        assert_eq!(text.parse::<KeepaliveTime>().unwrap().seconds(), seconds, "{text}");
    }
    for text in ["0s", "32768s", "-5s", "5s ago", "60", "", "sixty", "1y", "999999999999999999999s", "PT60S"] {
        let expected = format!("expected a duration of 1s to 32767s such as \"60s\", found {text:?}");
        assert_eq!(refusal::<KeepaliveTime>(text), expected);
    }
    assert_eq!(
        refusal::<KeepaliveTime>("350ms"),
        "expected a duration of whole seconds such as \"60s\", found \"350ms\""
    );
    for seconds in [0, u64::MAX, 65_536 + 60] {
        assert_eq!(KeepaliveTime::from_seconds(seconds), None);
    }
}

#[test]
fn lifetimes_have_milliseconds() {
    for (text, ms) in [("1s", 1000), ("1500ms", 1500), ("1.5s", 1500), ("7d", 604_800_000), ("1w", 604_800_000)] {
        assert_eq!(text.parse::<LifetimeDuration>().unwrap().as_millis(), ms, "{text}");
    }
    assert_eq!("3650d".parse::<LifetimeDuration>().unwrap().as_nanos(), 315_360_000_000_000_000);
    for text in ["350ms", "0s", "-1h", "3651d", "1mo", "1"] {
        let expected = format!("expected a duration of 1s to 3650d such as \"1h 30m\", found {text:?}");
        assert_eq!(refusal::<LifetimeDuration>(text), expected);
    }
    assert_eq!(
        refusal::<LifetimeDuration>("1500us"),
        "expected a duration of whole milliseconds such as \"1500ms\", found \"1500us\""
    );
}

#[test]
fn user_timeouts_are_auto_off_or_a_duration() {
    assert_eq!("auto".parse(), Ok(UserTimeout::Auto));
    assert_eq!("off".parse(), Ok(UserTimeout::Off));
    assert_eq!("350ms".parse(), Ok(UserTimeout::After(350)));
    assert_eq!("2147483647ms".parse(), Ok(UserTimeout::After(2_147_483_647)));
    for text in ["0s", "2147483648ms", "on", "Auto", "-1s"] {
        assert!(refusal::<UserTimeout>(text).starts_with("expected \"auto\", \"off\" or a duration of"), "{text}");
    }
    assert_eq!(UserTimeout::from_millis(0), Some(UserTimeout::Off));
    assert_eq!(UserTimeout::from_millis(2_147_483_648), None);
    assert_eq!(UserTimeout::from_millis((1 << 32) + 5), None);
}

#[test]
fn auto_is_what_keepalive_takes_to_give_up() {
    let time = |seconds| KeepaliveTime::from_seconds(seconds).unwrap();
    let count = |count| KeepaliveCount(count);
    assert_eq!(UserTimeout::auto_ms(time(60), count(5), time(5)), Ok(85_000));
    assert_eq!(
        UserTimeout::auto_ms(time(32_767), count(127), time(32_767)).unwrap_err().to_string(),
        "expected idle + interval * count of at most 2147483s for a user timeout of \"auto\", found 4194176s"
    );
}

#[test]
fn the_limits_in_the_messages_are_the_limits() {
    let (low, high) = (limits::KEEPALIVE_SECONDS.start(), limits::KEEPALIVE_SECONDS.end());
    assert!(KeepaliveTime::expected().contains(&format!("{low}s to {high}s")));
    let (low, high) = (limits::LIFETIME_SECONDS.start(), limits::LIFETIME_SECONDS.end() / 86_400);
    assert!(LifetimeDuration::expected().contains(&format!("{low}s to {high}d")));
    assert!(UserTimeout::expected().contains(&format!("{}ms", limits::USER_TIMEOUT_MS.end())));
}

proptest! {
    #[test]
    fn what_is_printed_parses(
        seconds in limits::KEEPALIVE_SECONDS, ms in LIFETIME_MS, short in 0_u64..=86_400_000,
    ) {
        let time = KeepaliveTime::from_seconds(seconds).unwrap();
        prop_assert_eq!(time.to_string().parse(), Ok(time));
        let lifetime = LifetimeDuration::from_millis(ms).unwrap();
        prop_assert_eq!(lifetime.to_string().parse(), Ok(lifetime));
        let timeout = UserTimeout::from_millis(short).unwrap();
        prop_assert_eq!(timeout.to_string().parse(), Ok(timeout));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,20}", short in "[-0-9.smhdwuy ]{0,12}") {
        for text in [&text, &short] {
            let _ = text.parse::<KeepaliveTime>();
            let _ = text.parse::<LifetimeDuration>();
            let _ = text.parse::<UserTimeout>();
        }
    }
}
