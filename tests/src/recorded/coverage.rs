//! Completeness: every operation that the description of the API names has a recorded answer.

use std::fs;

use crate::harness::lab::Lab;

/// The requests that were answered with 200: method and path, without the query.
fn recorded() -> Vec<(String, String)> {
    let files =
        fs::read_dir(super::directory()).expect("there are recordings").map(|file| file.expect("it is there").path());
    let texts = files.map(|file| fs::read_to_string(file).expect("recordings are text"));
    texts.flat_map(|text| asked(&text)).collect()
}

fn asked(text: &str) -> Vec<(String, String)> {
    let mut asked = Vec::new();
    let mut last = None;
    for line in text.lines() {
        if let Some((method, path)) = line.strip_prefix("> ").and_then(|line| line.split_once(" /")) {
            let path = path.split('?').next().unwrap_or(path);
            last = Some((method.to_owned(), format!("/{path}")));
        } else if line == "< 200" {
            asked.extend(last.take());
        }
    }
    asked
}

/// True if the path fits a pattern such as `/v1/connections/{id}`.
fn fits(path: &str, pattern: &str) -> bool {
    let (path, pattern) = (path.split('/'), pattern.split('/'));
    path.clone().count() == pattern.clone().count()
        && path.zip(pattern).all(|(part, pattern)| part == pattern || pattern.starts_with('{'))
}

#[test]
fn every_operation_has_an_answer() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let description = agent.get("/v1/openapi.json").ok();
    let recorded = recorded();
    let paths = description["paths"].as_object().expect("there are paths");
    assert!(!paths.is_empty());
    for (pattern, operations) in paths {
        for method in operations.as_object().expect("there are methods").keys() {
            let method = method.to_uppercase();
            let has = recorded.iter().any(|(asked, path)| *asked == method && fits(path, pattern));
            assert!(has, "expected a recorded answer to {method} {pattern}, found none");
        }
    }
}
