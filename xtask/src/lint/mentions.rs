//! Finds what a source file mentions: paths, `unsafe`, derived traits. Tests and comments are left out.
//!
//! It works on tokens, not on syntax, so that it sees what stands inside macros too. A path is resolved as far as the
//! file itself tells: through `self`, `super`, and the names that the file imports or declares as modules.

use std::str::FromStr;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::lint::names::Names;
use crate::lint::tokens::{is_punct, is_test_only, leading_path, line, split_at_commas};

/// Something that a file mentions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) kind: MentionKind,
}

/// The kinds of things that a file can mention.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MentionKind {
    /// A path of at least two segments, or an import; its last segment may be `*`.
    Path(Vec<String>),
    /// The keyword `unsafe`.
    Unsafe,
    /// A trait in a `derive`, without its path.
    Derive(String),
    /// A module in a file of its own that is for tests only: its path.
    TestModule(Vec<String>),
}

/// Scans the text of the module with this path, which begins with `crate`. The package's binary knows its library by the
/// name `library`; such a path begins with `crate` too in what is returned.
///
/// # Errors
/// The text is not made of Rust's tokens.
pub(super) fn scan(text: &str, library: &str, module: &[String]) -> Result<(Vec<Mention>, Names)> {
    let tokens = TokenStream::from_str(text).map_err(|error| anyhow!("{error}"))?;
    let mut scan = Scan { names: Names::new(library), found: Vec::new() };
    scan.stream(tokens, module);
    let Scan { names, mut found } = scan;
    for mention in &mut found {
        if let MentionKind::Path(path) = &mut mention.kind {
            names.expand(path);
        }
    }
    Ok((found, names))
}

struct Scan {
    names: Names,
    found: Vec<Mention>,
}

impl Scan {
    fn stream(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = &tokens[at..];
            at += match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' && is_test_only(rest) => self.test_item(rest, module),
                TokenTree::Group(group) => {
                    self.stream(group.stream(), module);
                    1
                }
                TokenTree::Ident(ident) => self.word(&ident.to_string(), rest, module),
                _ => 1,
            };
        }
    }

    /// Leaves out an item that is for tests only, up to its body or semicolon, and returns how many tokens it takes: all,
    /// after an inner attribute.
    fn test_item(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        if tokens.get(1).is_some_and(|token| is_punct(token, '!')) {
            return tokens.len();
        }
        let is_end = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            other => is_punct(other, ';'),
        };
        let item = &tokens[..tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)];
        if let [.., TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Punct(_)] = item
            && word == "mod"
        {
            self.push(line(tokens), MentionKind::TestModule(child(module, &name.to_string())));
        }
        item.len()
    }

    /// Scans what begins with an identifier, and returns how many tokens that was.
    fn word(&mut self, word: &str, tokens: &[TokenTree], module: &[String]) -> usize {
        let line = line(tokens);
        match (word, tokens.get(1), tokens.get(2)) {
            ("unsafe", ..) => {
                self.push(line, MentionKind::Unsafe);
                1
            }
            ("derive", Some(TokenTree::Group(traits)), _) if traits.delimiter() == Delimiter::Parenthesis => {
                for path in split_at_commas(traits.stream()) {
                    if let (Some(TokenTree::Ident(name)), line) = (path.last(), self::line(&path)) {
                        self.push(line, MentionKind::Derive(name.to_string()));
                    }
                }
                1
            }
            // What follows may begin with `::`, which does not continue a path.
            ("as" | "dyn" | "for" | "impl" | "in" | "return", ..) => 1,
            // The path of a visibility imports nothing.
            ("pub", Some(TokenTree::Group(scope)), _) if scope.stream().to_string().starts_with("in ") => 2,
            ("mod", Some(TokenTree::Ident(name)), body) => {
                let name = name.to_string();
                let path = child(module, &name);
                if let Some(TokenTree::Group(body)) = body {
                    self.stream(body.stream(), &path);
                }
                self.names.add_module(name, path);
                3
            }
            ("extern", Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if word == "crate" => {
                self.push(line, MentionKind::Path(vec![name.to_string()]));
                3
            }
            // Not the `use<'a>` of a type.
            ("use", Some(next), _) if !is_punct(next, '<') => {
                let end = tokens.iter().position(|token| is_punct(token, ';')).unwrap_or(tokens.len());
                self.import(&tokens[1..end], &[], module);
                end
            }
            _ => {
                let (path, length) = leading_path(tokens);
                if path.len() > 1 {
                    self.push(line, MentionKind::Path(from_root(path, module)));
                }
                length
            }
        }
    }

    /// Scans one branch of a `use` declaration; `prefix` is what stands before its braces.
    fn import(&mut self, tokens: &[TokenTree], prefix: &[String], module: &[String]) {
        // A leading `::` changes nothing here.
        let tokens = &tokens[tokens.iter().take_while(|token| is_punct(token, ':')).count()..];
        let (segments, length) = leading_path(tokens);
        let mut full = [prefix, &segments].concat();
        match tokens.get(length) {
            Some(TokenTree::Group(branches)) => {
                for branch in split_at_commas(branches.stream()) {
                    self.import(&branch, &full, module);
                }
                return;
            }
            Some(token) if is_punct(token, '*') => full.push("*".to_owned()),
            _ => {}
        }
        let mut full = from_root(full, module);
        if full.last().is_some_and(|last| last == "self") {
            full.pop();
        }
        let name = match tokens.get(length..) {
            Some([TokenTree::Ident(word), TokenTree::Ident(name)]) if word == "as" => Some(name.to_string()),
            _ => full.last().cloned(),
        };
        if let Some(name) = name {
            self.names.add_import(name, &full);
        }
        self.push(line(tokens), MentionKind::Path(full));
    }

    fn push(&mut self, line: usize, kind: MentionKind) {
        self.found.push(Mention { line, kind });
    }
}

fn child(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.to_owned()]].concat()
}

/// The same path from the root of its crate, if it begins with `self` or `super`.
fn from_root(path: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base = module;
    let mut rest = path.as_slice();
    match rest.first().map(String::as_str) {
        Some("self") => rest = &rest[1..],
        Some("super") => {}
        _ => return path,
    }
    while let [first, after @ ..] = rest
        && first == "super"
    {
        base = base.split_last().map_or(base, |(_, parents)| parents);
        rest = after;
    }
    [base, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        let module = ["crate", "model", "rules"].map(str::to_owned);
        let shown = |mention: Mention| match mention.kind {
            MentionKind::Path(path) => format!("{} {}", mention.line, path.join("::")),
            MentionKind::Unsafe => format!("{} unsafe", mention.line),
            MentionKind::Derive(name) => format!("{} derive {name}", mention.line),
            MentionKind::TestModule(path) => format!("{} test {}", mention.line, path.join("::")),
        };
        scan(source, "tcpops_agent", &module).unwrap().0.into_iter().map(shown).collect()
    }

    #[test]
    fn imports_are_taken_apart() {
        assert_eq!(found("use a::{b, c::{self, d as e}};"), ["1 a::b", "1 a::c", "1 a::c::d"]);
        assert_eq!(found("pub use ::a::*;\nuse b;"), ["1 a::*", "2 b"]);
        assert_eq!(found("use a::a;\nuse tcpops_agent::b;"), ["1 a::a", "2 crate::b"]);
        assert_eq!(found("fn f() -> impl Sized + use<'_> {}"), Vec::<String>::new());
        assert_eq!(found("pub(in crate::model) fn f() {}\nstruct S(pub (a::B, C));"), ["2 a::B"]);
    }

    #[test]
    fn relative_paths_are_resolved() {
        assert_eq!(found("use super::guard::Guard;"), ["1 crate::model::guard::Guard"]);
        assert_eq!(found("mod inner { use super::super::super::kernel; }"), ["1 crate::kernel"]);
        assert_eq!(found("use self::a::b;"), ["1 crate::model::rules::a::b"]);
    }

    #[test]
    fn names_of_modules_are_resolved() {
        assert_eq!(found("mod a;\npub use a::b;"), ["2 crate::model::rules::a::b"]);
        assert_eq!(found("use a::a;\nmod a;"), ["1 crate::model::rules::a::a"]);
        assert_eq!(found("mod a { mod b; }\nfn f() { b::c() }"), ["2 crate::model::rules::a::b::c"]);
    }

    #[test]
    fn aliases_and_macros_are_seen_through() {
        assert_eq!(found("use std::time as t;\nfn f() { vec![t::Instant::now()]; }")[1], "2 std::time::Instant::now");
        assert_eq!(found("use a::b;\nuse b::c;\nfn f() { c::d() }")[2], "3 a::b::c::d");
        assert_eq!(found("tokio::select! { _ = a::b() => {} }"), ["1 tokio::select", "1 a::b"]);
        assert_eq!(found("impl ::a::B for C {}"), ["1 a::B"]);
    }

    #[test]
    fn keywords_and_derives_are_found() {
        assert_eq!(found("// unsafe\nunsafe { \"unsafe\" }"), ["2 unsafe"]);
        assert_eq!(
            found("#[derive(Debug, serde::Serialize)] struct A;"),
            ["1 derive Debug", "1 derive Serialize", "1 serde::Serialize"]
        );
    }

    #[test]
    fn tests_are_left_out() {
        assert_eq!(found("#[cfg(test)]\n#[path = \"x\"]\nmod tests { use aya::Ebpf; }\nuse a::b;"), ["4 a::b"]);
        assert_eq!(found("#[cfg(test)] use a::b; use c::d;"), ["1 c::d"]);
        assert_eq!(found("#[cfg(test)] pub(crate) mod testing;"), ["1 test crate::model::rules::testing"]);
        assert_eq!(found("#![cfg(test)] use a::b;"), Vec::<String>::new());
        assert_eq!(found("#[cfg(not(test))] use a::b;"), ["1 a::b"]);
    }
}
