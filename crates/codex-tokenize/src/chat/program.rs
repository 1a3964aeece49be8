//! A template as a program of the engine, changed so that everything it makes is paid for.
//!
//! The engine counts steps, but one step can double a text. Its operators on texts and lists are therefore replaced, step by step, by filters of
//! ours that do the same within the [budget](super::budget); literal text is printed like any value. What has no bounded form is refused.

use std::ops::Range;

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, WhitespaceConfig, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, Value};

use super::guard;

/// The name a template has in messages.
const NAME: &str = "chat template";
/// A filter that is found by its name, not by a place where the engine remembers it.
const BY_NAME: u8 = !0;

/// Why a template cannot be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The engine does not understand it.
    Engine(Error),
    /// It is beyond what is run here: the line, and what.
    Refused(usize, String),
}

/// How transformers has Jinja treat white space.
pub(crate) fn whitespace() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// The source with the tags that mark what the assistant says as a filter of ours, which the engine knows how to parse.
pub(crate) fn mark_generation(source: &str) -> (String, bool) {
    let (mut marked, mut rest, mut found) = (String::with_capacity(source.len()), source, false);
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        marked.push_str(before);
        rest = tag;
        let Some(close) = tag.find("%}") else { break };
        let inner = &tag[..close];
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replaced = match word {
            "generation" => "filter generation",
            "endgeneration" => "endfilter",
            _ => continue,
        };
        found = true;
        marked.push_str(&inner.replacen(word, replaced, 1));
        rest = &tag[close..];
    }
    marked.push_str(rest);
    (marked, found)
}

/// Compiles a source that has been through [`mark_generation`].
pub(crate) fn compile(source: &str) -> Result<Instructions<'_>, Fault> {
    guard::check(source).map_err(|fault| match fault {
        guard::Fault::Source(error) => Fault::Engine(error),
        guard::Fault::Excess(line, what) => Fault::Refused(line, what),
    })?;
    let tree = parse(source, NAME, SyntaxConfig, whitespace()).map_err(Fault::Engine)?;
    let mut generator = CodeGenerator::new(NAME, source);
    generator.compile_stmt(&tree);
    paid(&generator.finish().0, source)
}

/// The same program with its operators replaced.
fn paid<'s>(program: &Instructions<'s>, source: &'s str) -> Result<Instructions<'s>, Fault> {
    let old: Vec<&Instruction<'s>> = (0..).map_while(|at| program.get(at)).collect();
    // Where each step begins in the new program: the steps that become two push the later ones back.
    let mut starts = Vec::with_capacity(old.len() + 1);
    let mut next = 0_u32;
    for step in &old {
        starts.push(next);
        next += 1 + u32::from(matches!(
            step,
            Instruction::EmitRaw(_) | Instruction::BuildList(_) | Instruction::BuildMap(_) | Instruction::BuildKwargs(_)
        ));
    }
    starts.push(next);
    let moved = |target: u32| starts.get(target as usize).copied().unwrap_or(next);
    let filter = |name: &'static str, args: u16| Instruction::ApplyFilter(name, Some(args), BY_NAME);

    let mut made = Instructions::new(NAME, source);
    let bodies = macro_bodies(&old);
    let mut loops = 0_usize;
    for (step, at) in old.iter().zip(0_u32..) {
        let line = program.get_line(at).unwrap_or(1);
        let mut add = |step: Instruction<'s>| made.add_with_line(step, line as u16);
        let refused = |what: &str| Err(Fault::Refused(line, what.to_owned()));
        match step {
            Instruction::EmitRaw(text) => {
                add(Instruction::LoadConst(Value::from(*text)));
                add(Instruction::Emit);
            }
            Instruction::BuildList(_) | Instruction::BuildMap(_) | Instruction::BuildKwargs(_) => {
                add((*step).clone());
                // Keyword arguments must stay what they are, and so must the lists.
                add(filter("weighed", 1));
            }
            Instruction::Add => drop(add(filter("+", 2))),
            Instruction::Mul => drop(add(filter("*", 2))),
            Instruction::Rem => drop(add(filter("%", 2))),
            Instruction::StringConcat => drop(add(filter("~", 2))),
            Instruction::Eq => drop(add(filter("==", 2))),
            Instruction::Ne => drop(add(filter("!=", 2))),
            Instruction::Lt => drop(add(filter("<", 2))),
            Instruction::Lte => drop(add(filter("<=", 2))),
            Instruction::Gt => drop(add(filter(">", 2))),
            Instruction::Gte => drop(add(filter(">=", 2))),
            Instruction::In => drop(add(filter("in", 2))),
            Instruction::GetItem => drop(add(filter("[]", 2))),
            Instruction::Slice => drop(add(filter("[:]", 4))),
            Instruction::Jump(to) => drop(add(Instruction::Jump(moved(*to)))),
            Instruction::JumpIfFalse(to) => drop(add(Instruction::JumpIfFalse(moved(*to)))),
            Instruction::JumpIfFalseOrPop(to) => drop(add(Instruction::JumpIfFalseOrPop(moved(*to)))),
            Instruction::JumpIfTrueOrPop(to) => drop(add(Instruction::JumpIfTrueOrPop(moved(*to)))),
            Instruction::Iterate(to) => drop(add(Instruction::Iterate(moved(*to)))),
            Instruction::BuildMacro(name, from, flags) => {
                // One made again and again can hold the one before, without end.
                if loops > 0 || bodies.iter().any(|body| body.contains(&at)) {
                    return refused("a macro or call block within a loop or a macro");
                }
                add(Instruction::BuildMacro(name, moved(*from), *flags));
            }
            Instruction::CompareAndPreserve(_) => return refused("a chain of comparisons such as `a < b < c`"),
            Instruction::CallBlock(_)
            | Instruction::LoadBlocks
            | Instruction::Include(_)
            | Instruction::ExportLocals
            | Instruction::FastSuper
            | Instruction::FastRecurse => return refused("a block, another template or a recursive loop"),
            Instruction::UnpackLists(_) => return refused("arguments from a list, as in `f(*list)`"),
            other => {
                match other {
                    Instruction::PushLoop(_) => loops += 1,
                    Instruction::PopLoopFrame => loops = loops.saturating_sub(1),
                    _ => {}
                }
                add((*other).clone());
            }
        }
    }
    Ok(made)
}

/// The steps that are the bodies of macros: each stands behind a jump over it.
fn macro_bodies(program: &[&Instruction<'_>]) -> Vec<Range<u32>> {
    let bodies = program.iter().filter_map(|step| {
        let Instruction::BuildMacro(_, from, _) = step else { return None };
        match program.get(from.checked_sub(1)? as usize)? {
            Instruction::Jump(to) => Some(*from..*to),
            _ => None,
        }
    });
    bodies.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_a_filter_with_the_same_white_space() {
        let (marked, found) = mark_generation("a{%- generation -%}b{% endgeneration %}{% if generation %}{%+generation+%}{% open");
        assert_eq!(marked, "a{%- filter generation -%}b{% endfilter %}{% if generation %}{%+filter generation+%}{% open");
        assert!(found);
        assert_eq!(mark_generation("{% set generation = 1 %}"), ("{% set generation = 1 %}".to_owned(), false));
    }

    #[test]
    fn what_has_no_bound_is_refused_with_its_line() {
        for (source, told) in [
            ("\n{% if 1 < x < 3 %}{% endif %}", "2: a chain"),
            ("{{ f(*x) }}", "1: arguments from a list"),
            ("{% include 'x' %}", "1: a block, another template"),
            ("{% extends 'x' %}", "1: a block, another template"),
            ("{% import 'x' as y %}", "1: a block, another template"),
            ("{% block x %}{% endblock %}", "1: a block, another template"),
            ("{% for a in b %}\n{% macro m() %}{% endmacro %}{% endfor %}", "2: a macro"),
            ("{% macro m() %}{% macro n() %}{% endmacro %}{% endmacro %}", "1: a macro"),
        ] {
            let Err(Fault::Refused(line, what)) = compile(source) else { panic!("{source}") };
            assert!(format!("{line}: {what}").starts_with(told), "{source}: {line}: {what}");
        }
        assert!(compile("{% macro m(a) %}{{ a }}{% endmacro %}{% for a in b %}{{ m(a) }}{% endfor %}").is_ok());
    }
}
