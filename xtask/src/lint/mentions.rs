//! What a source file mentions: paths, `unsafe`, derived traits. Tests and comments are left out.
//!
//! It works on tokens, not on syntax, so that it sees what stands inside macros too. Paths are resolved as far as the
//! file itself tells: `self`, `super` and the names that its `use` declarations bring in.

use std::collections::HashMap;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Something that a file mentions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) what: What,
}

/// What is mentioned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A path of at least two segments, or an import; its last segment may be `*`.
    Path(Vec<String>),
    /// The keyword `unsafe`.
    Unsafe,
    /// A trait in a `derive`, without its path.
    Derive(String),
    /// A module in a file of its own that is for tests only: its path.
    TestModule(Vec<String>),
}

/// Everything that `source` mentions; `module` is the path of its module, beginning with `crate`.
///
/// # Errors
/// The source is not made of Rust's tokens.
pub(crate) fn mentions(source: &str, module: &[String]) -> Result<Vec<Mention>> {
    let tokens = TokenStream::from_str(source).map_err(|error| anyhow!("{error}"))?;
    let mut scan = Scan { aliases: HashMap::new(), found: Vec::new() };
    scan.stream(tokens, module);
    let Scan { aliases, mut found } = scan;
    for mention in &mut found {
        if let What::Path(path) = &mut mention.what
            && let Some(full) = path.first().and_then(|first| aliases.get(first))
        {
            path.splice(..1, full.iter().cloned());
        }
    }
    Ok(found)
}

struct Scan {
    /// From a name to the path that a `use` gave it.
    aliases: HashMap<String, Vec<String>>,
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

    /// Leaves out an item that is for tests only, up to its body or semicolon, and returns how many tokens it has: all,
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
            let path = [module, &[name.to_string()]].concat();
            self.found.push(Mention { line: line(tokens), what: What::TestModule(path) });
        }
        item.len()
    }

    /// Takes in what begins with an identifier, and returns how many tokens that was.
    fn word(&mut self, word: &str, tokens: &[TokenTree], module: &[String]) -> usize {
        let line = line(tokens);
        match (word, tokens.get(1), tokens.get(2)) {
            ("unsafe", ..) => {
                self.found.push(Mention { line, what: What::Unsafe });
                1
            }
            ("derive", Some(TokenTree::Group(traits)), _) if traits.delimiter() == Delimiter::Parenthesis => {
                for path in split_at_commas(traits.stream()) {
                    if let (Some(TokenTree::Ident(name)), line) = (path.last(), self::line(&path)) {
                        self.found.push(Mention { line, what: What::Derive(name.to_string()) });
                    }
                }
                1
            }
            ("mod", Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                self.stream(body.stream(), &[module, &[name.to_string()]].concat());
                3
            }
            ("extern", Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) if word == "crate" => {
                self.found.push(Mention { line, what: What::Path(vec![name.to_string()]) });
                3
            }
            // Not the `use<'a>` of a type.
            ("use", Some(next), _) if !is_punct(next, '<') => {
                let end = tokens.iter().position(|token| is_punct(token, ';')).unwrap_or(tokens.len());
                self.import(&tokens[1..end], &[], module);
                end
            }
            _ => {
                let (path, length) = path(tokens);
                if path.len() > 1 {
                    self.found.push(Mention { line, what: What::Path(resolve(path, module)) });
                }
                length
            }
        }
    }

    /// Takes in one branch of a `use` declaration; `prefix` is what stands before its braces.
    fn import(&mut self, tokens: &[TokenTree], prefix: &[String], module: &[String]) {
        // A leading `::` changes nothing here.
        let tokens = &tokens[tokens.iter().take_while(|token| is_punct(token, ':')).count()..];
        let (segments, length) = path(tokens);
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
        let mut full = resolve(full, module);
        if full.last().is_some_and(|last| last == "self") {
            full.pop();
        }
        let renamed = match tokens.get(length..) {
            Some([TokenTree::Ident(word), TokenTree::Ident(name)]) if word == "as" => Some(name.to_string()),
            _ => full.last().cloned(),
        };
        if let Some(name) = renamed {
            self.aliases.insert(name, full.clone());
        }
        self.found.push(Mention { line: line(tokens), what: What::Path(full) });
    }
}

/// The path that `tokens` begin with, and how many tokens it has, a trailing `::` included.
fn path(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    let mut at = 0;
    while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
        path.push(segment.to_string());
        at += 1;
        if !matches!(tokens.get(at..at + 2), Some([a, b]) if is_punct(a, ':') && is_punct(b, ':')) {
            break;
        }
        at += 2;
    }
    (path, at)
}

/// The same path from the root of its crate, if it begins with `self` or `super`.
fn resolve(path: Vec<String>, module: &[String]) -> Vec<String> {
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

/// Whether `tokens` begin with an attribute that keeps what follows for tests: `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_test_only(tokens: &[TokenTree]) -> bool {
    let attribute = tokens.iter().find(|token| !matches!(token, TokenTree::Punct(_)));
    let Some(TokenTree::Group(attribute)) = attribute else { return false };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    tokens.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()).map(<[_]>::to_vec).collect()
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn line(tokens: &[TokenTree]) -> usize {
    tokens.first().map_or(0, |token| token.span().start().line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        let module = ["crate", "model", "rules"].map(str::to_owned);
        let shown = |mention: Mention| match mention.what {
            What::Path(path) => format!("{} {}", mention.line, path.join("::")),
            What::Unsafe => format!("{} unsafe", mention.line),
            What::Derive(name) => format!("{} derive {name}", mention.line),
            What::TestModule(path) => format!("{} test {}", mention.line, path.join("::")),
        };
        mentions(source, &module).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn imports_are_taken_apart() {
        assert_eq!(found("use a::{b, c::{self, d as e}};"), ["1 a::b", "1 a::c", "1 a::c::d"]);
        assert_eq!(found("pub use ::a::*;\nuse b;"), ["1 a::*", "2 b"]);
        assert_eq!(found("fn f() -> impl Sized + use<'_> {}"), Vec::<String>::new());
    }

    #[test]
    fn relative_paths_are_resolved() {
        assert_eq!(found("use super::guard::Guard;"), ["1 crate::model::guard::Guard"]);
        assert_eq!(found("mod inner { use super::super::super::kernel; }"), ["1 crate::kernel"]);
        assert_eq!(found("use self::a::b;"), ["1 crate::model::rules::a::b"]);
    }

    #[test]
    fn aliases_and_macros_are_seen_through() {
        assert_eq!(found("use std::time as t;\nfn f() { vec![t::Instant::now()]; }")[1], "2 std::time::Instant::now");
        assert_eq!(found("tokio::select! { _ = a::b() => {} }"), ["1 tokio::select", "1 a::b"]);
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
