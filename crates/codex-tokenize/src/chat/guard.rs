//! What the source of a template may be before it is parsed. The engine's parser and compiler follow chains such as `a|b|c` by recursion and
//! compute constants on the way, both without a bound.

use minijinja::Error;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::program::whitespace;

/// The longest template, in bytes; the longest known one has 20,000.
pub(crate) const MAX_SOURCE_BYTES: usize = 256 << 10;
/// The most operators, brackets and such in one tag, which is also how deep it can nest.
const MAX_OPERATORS: usize = 400;
/// The most `elif` in a template.
const MAX_ELIF: usize = 256;
/// The most bytes that `*` may make of constants.
const MAX_REPEATED: usize = 1 << 20;

/// What is wrong with a source.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It cannot be read as tags and text.
    Source(Error),
    /// It is more than is read here: the line, and what.
    Excess(usize, String),
}

/// Checks a source without parsing it.
pub(crate) fn check(source: &str) -> Result<(), Fault> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(Fault::Excess(1, format!("{} bytes, more than {MAX_SOURCE_BYTES}", source.len())));
    }
    let mut tag = Tag::default();
    let (mut elif, mut repeated) = (0, 0_usize);
    for token in tokenize(source, false, SyntaxConfig, whitespace()) {
        let (token, span) = token.map_err(Fault::Source)?;
        let line = usize::from(span.start_line);
        match token {
            Token::VariableStart | Token::BlockStart => tag = Tag::default(),
            Token::VariableEnd | Token::BlockEnd => {
                repeated = repeated.saturating_add(tag.repeated());
                if repeated > MAX_REPEATED {
                    return Err(Fault::Excess(line, format!("constants repeated to more than {MAX_REPEATED} bytes")));
                }
            }
            Token::Ident("elif") => elif += 1,
            Token::Ident("and" | "or" | "not" | "is" | "in" | "if" | "else") => tag.operators += 1,
            Token::Ident(_) | Token::Comma | Token::Colon | Token::Assign | Token::Float(_) | Token::TemplateData(_) => {}
            Token::Str(text) => tag.text += text.len(),
            Token::String(text) => tag.text += text.len(),
            Token::Int(number) => tag.factor = tag.factor.saturating_mul(usize::try_from(number).unwrap_or(usize::MAX).max(1)),
            Token::Int128(_) => tag.factor = usize::MAX,
            token => {
                tag.repeats |= matches!(token, Token::Mul);
                tag.operators += 1;
            }
        }
        if tag.operators > MAX_OPERATORS {
            return Err(Fault::Excess(line, format!("more than {MAX_OPERATORS} operators in one tag")));
        }
        if elif > MAX_ELIF {
            return Err(Fault::Excess(line, format!("more than {MAX_ELIF} `elif`")));
        }
    }
    Ok(())
}

/// What has been seen of a tag.
struct Tag {
    operators: usize,
    text: usize,
    /// The product of its whole numbers.
    factor: usize,
    repeats: bool,
}

impl Default for Tag {
    fn default() -> Self {
        Self { operators: 0, text: 0, factor: 1, repeats: false }
    }
}

impl Tag {
    /// The most that its constants become.
    fn repeated(&self) -> usize {
        if self.repeats { (self.text + self.operators).saturating_mul(self.factor) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(source: &str) -> String {
        match check(source) {
            Ok(()) => String::new(),
            Err(Fault::Source(error)) => error.to_string(),
            Err(Fault::Excess(line, what)) => format!("{line}: {what}"),
        }
    }

    #[test]
    fn usual_sources_pass_and_excess_is_told_with_its_line() {
        assert_eq!(fault("{% for m in messages %}{{ '=' * 40 + m['role']|trim }}{% endfor %}"), "");
        assert_eq!(fault(&format!("\n{{{{ a{} }}}}", ".b".repeat(500))), "2: more than 400 operators in one tag");
        assert_eq!(fault(&format!("{{{{ a{} }}}}", "|b".repeat(500))), "1: more than 400 operators in one tag");
        assert_eq!(fault("{{ 'a' * 90000000 }}"), "1: constants repeated to more than 1048576 bytes");
        assert_eq!(fault(&"{{ 'a' * 90000 }}".repeat(20)), "1: constants repeated to more than 1048576 bytes");
        assert_eq!(fault(&format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(300))), "1: more than 256 `elif`");
        assert_eq!(fault(&" ".repeat(MAX_SOURCE_BYTES + 1)), "1: 262145 bytes, more than 262144");
        assert!(fault("{{ 'a").contains("syntax error"));
    }
}
