//! What is decided from an entry alone: by rules, by an override, and against the program.

use tcpops_common::conn::Connection;
use tcpops_common::enforce::{Answer, Reconsidered};
use tcpops_common::option::Part;
use tcpops_common::policy::{Lifetime, Options, Policy, Setting, SocketOptions, Source, TcpOption};
use tcpops_common::state::TcpState;

const IDLE: Policy =
    Policy { lifetime_setting: Setting::Set, lifetime: Lifetime { idle_ns: 7, ..Lifetime::NONE }, ..Policy::NONE };
const RULE: Policy = Policy { options: wanted(Setting::Set), ..IDLE };
const OVERRIDE: Policy = Policy {
    options: Options { keepalive: Setting::Set, keepidle_s: 33, keepintvl_s: 3, keepcnt: 3, ..Options::NONE },
    options_pushed: 1,
    serial: 4,
    by_uid: 1000,
    ..Policy::NONE
};
const OPEN: Connection = Connection { state: TcpState::Established, ..Connection::EMPTY };

const fn wanted(setting: Setting) -> Options {
    Options {
        keepalive: setting,
        keepidle_s: 60,
        keepintvl_s: 10,
        keepcnt: 5,
        user_timeout: setting,
        user_timeout_ms: 95_000,
        ..Options::NONE
    }
}

fn sources(connection: &Connection) -> [Source; 3] {
    [connection.keepalive_source, connection.user_timeout_source, connection.lifetime_source]
}

#[test]
fn options_are_found_by_their_constants() {
    for option in TcpOption::ORDER {
        let (level, number) = option.constants();
        assert_eq!(TcpOption::from_constants(level, number), Some(option), "{}", option.name());
    }
    // TCP_NODELAY, SO_REUSEADDR, and the constants of no option.
    assert_eq!([(6, 1), (1, 2), (0, 0)].map(|(level, number)| TcpOption::from_constants(level, number)), [None; 3]);
}

#[test]
fn every_option_has_a_bit_and_a_place() {
    let bits = TcpOption::ORDER.map(TcpOption::bit);
    assert_eq!(bits.iter().fold(0, |all, bit| all | bit).count_ones() as usize, bits.len());
    for option in TcpOption::ORDER {
        let mut options = SocketOptions::NONE;
        options.set(option, 1);
        let others = TcpOption::ORDER.into_iter().filter(|other| *other != option);
        assert_eq!(options.get(option), 1);
        assert!(others.into_iter().all(|other| options.get(other) == 0), "{}", option.name());
    }
}

#[test]
fn values_are_those_that_the_kernel_takes() {
    let takes = |option: TcpOption| [0, 1, 127, 128, 32_767, 32_768, 1 << 31].map(|value| option.takes(value));
    assert_eq!(takes(TcpOption::KeepAlive), [true; 7]);
    assert_eq!(takes(TcpOption::KeepCnt), [false, true, true, false, false, false, false]);
    assert_eq!(takes(TcpOption::KeepIdle), [false, true, true, true, true, false, false]);
    assert_eq!(takes(TcpOption::UserTimeout), [true, true, true, true, true, true, false]);
    let can_be_off = TcpOption::ORDER.into_iter().filter(|option| option.can_be_off());
    assert!(can_be_off.eq([TcpOption::UserTimeout, TcpOption::KeepAlive]));
}

#[test]
fn the_setting_and_the_program_decide_what_is_wanted() {
    let original = SocketOptions { keepalive: 1, keepcnt: 9, keepidle_s: 30, keepintvl_s: 75, ..SocketOptions::NONE };
    let values = |setting, own| {
        let policy = Policy { options: wanted(setting), ..Policy::NONE };
        let connection = Connection { policy, original, own, ..OPEN };
        TcpOption::ORDER.map(|option| connection.wanted(option))
    };
    let all = [95_000, 60, 10, 5, 1].map(Some);
    assert_eq!(values(Setting::Leave, 0), [None; 5]);
    assert_eq!(values(Setting::Set, 3), all);
    assert_eq!(values(Setting::Clear, 3), [Some(0), None, None, None, Some(0)]);
    assert_eq!(values(Setting::Default, 0), all);
    assert_eq!(values(Setting::Default, Part::Keepalive as u8), [Some(95_000), None, None, None, None]);
    assert_eq!(values(Setting::Floor, 3), [95_000, 30, 10, 5, 1].map(Some));
}

#[test]
fn a_handshake_is_limited_and_gets_its_rule_at_its_end() {
    let mut connection = Connection { state: TcpState::SynSent, ..OPEN };
    assert_eq!(connection.reconsider(2, &RULE, &Policy::NONE), Reconsidered::Unchanged);
    connection.limit_handshake(1, &RULE);
    assert_eq!((connection.rule, connection.policy), (1, IDLE));
    assert_eq!(sources(&connection), [Source::None, Source::None, Source::Rule]);
    let mut ruled = connection;
    ruled.take_rule(2, &RULE);
    assert_eq!((ruled.rule, ruled.policy, sources(&ruled)), (2, RULE, [Source::Rule; 3]));
    connection.take_no_rule();
    assert_eq!((connection.rule, connection.policy, sources(&connection)), (0, Policy::NONE, [Source::None; 3]));
}

#[test]
fn an_override_wins_over_the_rule_for_what_it_speaks_of() {
    let mut connection = OPEN;
    connection.take_rule(1, &RULE);
    assert!(connection.awaits(&OVERRIDE));
    assert!(connection.take_override(&OVERRIDE), "its options are to be set");
    assert!(!connection.awaits(&OVERRIDE));
    let merged = Options { user_timeout: Setting::Set, user_timeout_ms: 95_000, ..OVERRIDE.options };
    assert_eq!(connection.policy.options, merged);
    assert_eq!(sources(&connection), [Source::Override, Source::Rule, Source::Rule]);
    // A change of lifetimes alone sets no option.
    let lifetime = Policy { options_pushed: 0, serial: 5, lifetime_setting: Setting::Clear, ..OVERRIDE };
    assert!(!connection.take_override(&lifetime));
    assert_eq!(sources(&connection), [Source::Override, Source::Rule, Source::Override]);
    assert!(connection.policy.lifetime_in_force().is_none());
}

#[test]
fn other_rules_change_only_what_they_want_otherwise() {
    let none = Policy::NONE;
    let mut connection = OPEN;
    assert_eq!(connection.reconsider(0, &none, &none), Reconsidered::Unchanged);
    assert_eq!(connection.reconsider(1, &RULE, &none), Reconsidered::OptionsChanged);
    assert_eq!(sources(&connection), [Source::Rule; 3]);
    assert_eq!(connection.reconsider(1, &RULE, &none), Reconsidered::Unchanged);
    // Another rule that wants the same, and one with another lifetime.
    assert_eq!(connection.reconsider(2, &RULE, &none), Reconsidered::Changed);
    let ageless = Policy { lifetime_setting: Setting::Leave, ..RULE };
    assert_eq!(connection.reconsider(2, &ageless, &none), Reconsidered::Changed);
    assert_eq!(connection.lifetime_source, Source::None);
    // The override stays in force whatever the rules are.
    assert_eq!(connection.reconsider(2, &ageless, &OVERRIDE), Reconsidered::OptionsChanged);
    assert_eq!(connection.reconsider(0, &none, &OVERRIDE), Reconsidered::OptionsChanged);
    assert_eq!(connection.policy, none.overridden_by(&OVERRIDE));
    assert_eq!(sources(&connection), [Source::Override, Source::None, Source::None]);
    let deaf = Policy { options: Options { user_timeout: Setting::Leave, user_timeout_ms: 0, ..RULE.options }, ..none };
    assert_eq!(connection.reconsider(3, &deaf, &OVERRIDE), Reconsidered::Changed);
}

#[test]
fn the_policy_answers_a_program_that_sets_an_option() {
    let under = |setting| {
        let policy = Policy { options: wanted(setting), ..Policy::NONE };
        let touched = TcpOption::ORDER.into_iter().fold(0, |touched, option| touched | option.bit());
        Connection { policy, touched, ..OPEN }
    };
    let answer = |setting, option, value| under(setting).program_sets(option, value);
    let (idle, timeout) = (TcpOption::KeepIdle, TcpOption::UserTimeout);
    assert_eq!(answer(Setting::Set, idle, 30), Answer::Replace(60));
    assert_eq!(answer(Setting::Set, idle, 60), Answer::Pass, "it sets what is wanted");
    assert_eq!(answer(Setting::Set, idle, 0), Answer::Pass, "the kernel refuses it");
    assert_eq!(answer(Setting::Leave, idle, 30), Answer::Pass);
    assert_eq!(answer(Setting::Clear, idle, 30), Answer::Pass, "off is off, whatever the parameters are");
    assert_eq!(answer(Setting::Clear, TcpOption::KeepAlive, 1), Answer::Replace(0));
    assert_eq!(answer(Setting::Clear, timeout, 1), Answer::Replace(0));
    assert_eq!(answer(Setting::Floor, timeout, 0), Answer::Replace(95_000));
    assert_eq!(answer(Setting::Floor, timeout, 5), Answer::Pass);
    assert_eq!(answer(Setting::Default, idle, 30), Answer::GiveWay(Part::Keepalive));
    assert_eq!(answer(Setting::Default, timeout, 30), Answer::GiveWay(Part::UserTimeout));
}

#[test]
fn what_the_program_sets_is_noted() {
    let mut connection = Connection { policy: RULE, ..OPEN };
    // Before the first change its options are not kept, but it is known that they are its own.
    assert_eq!(connection.program_sets(TcpOption::KeepIdle, 30), Answer::Pass);
    assert_eq!((connection.original, connection.is_own(Part::Keepalive)), (SocketOptions::NONE, true));
    connection.touched = TcpOption::KeepIdle.bit();
    assert_eq!(connection.program_sets(TcpOption::KeepIdle, 30), Answer::Replace(60));
    assert_eq!((connection.original.keepidle_s, connection.in_force.keepidle_s), (30, 60));
    // What the kernel refuses is not wanted.
    assert_eq!(connection.program_sets(TcpOption::UserTimeout, u32::MAX), Answer::Pass);
    assert!(!connection.is_own(Part::UserTimeout));
}
