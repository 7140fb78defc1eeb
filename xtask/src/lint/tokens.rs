//! Helpers for reading tokens.

use proc_macro2::{TokenStream, TokenTree};

/// The path that `tokens` begin with, and how many tokens it takes, a trailing `::` included.
pub(super) fn leading_path(tokens: &[TokenTree]) -> (Vec<String>, usize) {
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

/// Tells whether `tokens` begin with an attribute that keeps what follows for tests: `#[cfg(test)]` or `#[cfg(all(test, …))]`.
pub(super) fn is_test_only(tokens: &[TokenTree]) -> bool {
    let attribute = tokens.iter().find(|token| !matches!(token, TokenTree::Punct(_)));
    let Some(TokenTree::Group(attribute)) = attribute else { return false };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The parts between the commas, without empty ones.
pub(super) fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    tokens.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()).map(<[_]>::to_vec).collect()
}

/// Tells whether the token is this punctuation character.
pub(super) fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// The line that `tokens` begin on.
pub(super) fn line(tokens: &[TokenTree]) -> usize {
    tokens.first().map_or(0, |token| token.span().start().line)
}
