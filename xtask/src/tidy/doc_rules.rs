//! Rules for Markdown: what it points to is there. Whether it is true is shown by tests and by reading.

use super::{Context, File};

/// Relative links lead to files that exist, and to headings that exist in the same file.
pub fn links(file: &File, context: &Context<'_>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in prose(file) {
        for target in link_targets(text) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            if path.contains(':') {
                continue;
            }
            if path.is_empty() {
                if !headings(file).any(|heading| heading == anchor) {
                    found.push((line, format!("`#{anchor}` is no heading of this file")));
                }
            } else if !resolve(&file.path, path).is_some_and(|path| (context.exists)(&path)) {
                found.push((line, format!("`{path}` does not exist")));
            }
        }
    }
    found
}

/// Every `cargo xtask TASK` that is named can be typed.
pub fn commands(file: &File, context: &Context<'_>) -> Vec<(usize, String)> {
    if !is_markdown(file) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (idx, line) in file.text.lines().enumerate() {
        for rest in line.split("cargo xtask ").skip(1) {
            let task: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let is_option = task.is_empty() || task.starts_with('-') || task == "help";
            if !is_option && !context.tasks.contains(&task) {
                found.push((idx + 1, format!("`cargo xtask {task}` does not exist; there are {}", context.tasks.join(", "))));
            }
        }
    }
    found
}

fn is_markdown(file: &File) -> bool {
    std::path::Path::new(&file.path).extension().is_some_and(|extension| extension == "md")
}

/// The lines of a Markdown file outside its code blocks, numbered from 1.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    let lines = if is_markdown(file) { file.text.as_str() } else { "" };
    lines.lines().enumerate().filter_map(move |(idx, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((idx + 1, line))
    })
}

/// The targets of `[text](target)`, `![text](target)` and `[name]: target`, code spans left out.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets: Vec<&str> = Vec::new();
    let mut in_code = false;
    for (at, c) in line.char_indices() {
        in_code ^= c == '`';
        let rest = &line[at..];
        let target = if in_code { None } else { rest.strip_prefix("](").and_then(|rest| rest.split_once(')')) };
        targets.extend(target.and_then(|(target, _)| target.split_whitespace().next()));
    }
    if line.starts_with('[') && !line.starts_with("[^") {
        targets.extend(line.split_once("]: ").and_then(|(_, target)| target.split_whitespace().next()));
    }
    targets
}

/// The anchors of the headings, as GitHub makes them.
fn headings(file: &File) -> impl Iterator<Item = String> {
    prose(file).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The target as a path from the root; `None` when it leaves the workspace.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
