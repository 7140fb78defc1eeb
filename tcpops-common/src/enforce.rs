//! Rules, an override and the program want different things of a connection: who wins is decided here, from the entry
//! alone.

use crate::conn::Connection;
use crate::option::Part;
use crate::policy::{Policy, Setting, SocketOptions, Source, TcpOption};
use crate::state::TcpState;

/// The result of judging a connection anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconsidered {
    /// As before.
    Unchanged,
    /// Under another policy that wants the same options.
    Changed,
    /// Under another policy that wants other options.
    OptionsChanged,
}

/// The answer to a program that sets an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The program's value is set.
    Pass,
    /// This value is set instead.
    Replace(u32),
    /// The program's value is set, and the other options of the part go back to what the program had.
    GiveWay(Part),
}

impl Connection {
    /// Puts a connection that begins its handshake under the limits of a rule. Its options wait for the end of the
    /// handshake.
    pub fn limit_handshake(&mut self, rule: u32, by_rule: &Policy) {
        self.rule = rule;
        self.policy.lifetime_setting = by_rule.lifetime_setting;
        self.policy.lifetime = by_rule.lifetime;
        self.policy.jitter_percent = by_rule.jitter_percent;
        self.policy.tells = by_rule.tells;
        self.lifetime_source = Source::Rule;
    }

    /// Puts a connection that has ended its handshake under the rule that matches it.
    pub fn take_rule(&mut self, rule: u32, by_rule: &Policy) {
        self.rule = rule;
        self.policy = *by_rule;
        self.note_sources(by_rule, Source::Rule, true);
    }

    /// No rule matches a connection that has ended its handshake; one may have limited the handshake.
    pub fn take_no_rule(&mut self) {
        if self.rule != 0 {
            self.rule = 0;
            self.policy = Policy::NONE;
            self.lifetime_source = Source::None;
        }
    }

    /// True if the override is still to be applied.
    pub fn awaits(&self, override_: &Policy) -> bool {
        self.policy.serial != override_.serial
    }

    /// Puts the override over the policy in force; true if options are to be set for it. One that changed lifetimes
    /// alone leaves options as the program may have set them since.
    pub fn take_override(&mut self, override_: &Policy) -> bool {
        let sets_options = override_.options_pushed != 0;
        self.policy.override_with(override_);
        self.note_sources(override_, Source::Override, sets_options);
        sets_options && override_.options.any()
    }

    fn note_sources(&mut self, policy: &Policy, source: Source, of_options: bool) {
        if policy.lifetime_setting.speaks() {
            self.lifetime_source = source;
        }
        for &part in Part::ALL {
            if of_options && policy.options.setting(part).speaks() {
                *self.source_mut(part) = source;
            }
        }
    }

    const fn source_mut(&mut self, part: Part) -> &mut Source {
        match part {
            Part::Keepalive => &mut self.keepalive_source,
            Part::UserTimeout => &mut self.user_timeout_source,
        }
    }

    /// Judges the connection anew by the rule that matches it now (0 and [`Policy::NONE`] for none) and its override
    /// ([`Policy::NONE`] for none).
    pub fn reconsider(&mut self, rule: u32, by_rule: &Policy, override_: &Policy) -> Reconsidered {
        if matches!(self.state, TcpState::SynSent | TcpState::SynRecv) {
            // It gets its rule at the end of its handshake.
            return Reconsidered::Unchanged;
        }
        let policy = by_rule.overridden_by(override_);
        if self.rule == rule && self.policy == policy {
            return Reconsidered::Unchanged;
        }
        let options_changed = self.policy.options != policy.options;
        self.rule = rule;
        self.policy = policy;
        self.lifetime_source = source(override_.lifetime_setting, by_rule.lifetime_setting);
        for &part in Part::ALL {
            *self.source_mut(part) = source(override_.options.setting(part), by_rule.options.setting(part));
        }
        if options_changed { Reconsidered::OptionsChanged } else { Reconsidered::Changed }
    }

    /// True if tcpops has changed the option.
    pub const fn has_touched(&self, option: TcpOption) -> bool {
        self.touched & option.bit() != 0
    }

    /// True if the program has set an option of the part itself.
    pub const fn is_own(&self, part: Part) -> bool {
        self.own & part as u8 != 0
    }

    /// Takes the options as they are before the first change. One that is on is the program's: nobody else has touched
    /// the socket so far.
    pub(crate) fn note_original(&mut self, original: SocketOptions) {
        self.original = original;
        for option in TcpOption::ORDER {
            if option.can_be_off() && original.get(option) != 0 {
                self.own |= option.part() as u8;
            }
        }
    }

    /// The value that the policy in force wants the option to have, in view of what the program wants; `None` where it
    /// is left to the program.
    pub fn wanted(&self, option: TcpOption) -> Option<u32> {
        let (options, part) = (&self.policy.options, option.part());
        let value = options.get(option);
        match options.setting(part) {
            Setting::Leave => None,
            Setting::Set => Some(value),
            // Off is off, whatever the parameters are.
            Setting::Clear => option.can_be_off().then_some(0),
            Setting::Default => (!self.is_own(part)).then_some(value),
            // The tighter value is the one under which a dead peer is noticed sooner; zero is off.
            Setting::Floor => Some(match self.original.get(option) {
                0 => value,
                own => own.min(value),
            }),
        }
    }

    /// The program sets an option itself. Notes what it wants, which is what it gets back when no policy says otherwise
    /// any more.
    pub fn program_sets(&mut self, option: TcpOption, value: u32) -> Answer {
        if !option.takes(value) {
            // The kernel refuses it.
            return Answer::Pass;
        }
        let part = option.part();
        self.own |= part as u8;
        if self.touched == 0 {
            // The options are as the program has them, and are read before the first change.
            return Answer::Pass;
        }
        self.original.set(option, value);
        let wanted = self.wanted(option).unwrap_or(value);
        self.in_force.set(option, wanted);
        match self.policy.options.setting(part) {
            Setting::Default => Answer::GiveWay(part),
            _ if wanted != value => Answer::Replace(wanted),
            _ => Answer::Pass,
        }
    }
}

fn source(in_override: Setting, in_rule: Setting) -> Source {
    match (in_override.speaks(), in_rule.speaks()) {
        (true, _) => Source::Override,
        (false, true) => Source::Rule,
        (false, false) => Source::None,
    }
}
