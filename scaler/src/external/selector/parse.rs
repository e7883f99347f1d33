//! The grammar of selectors: text in; requirements out, as apimachinery's lexer and parser read them. Pure.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::Condition;
use super::ParseSelectorError;
use super::Requirement;
use super::valid;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    Comma,
    Not,
    Equals,
    NotEquals,
    Above,
    Below,
}

/// Reads requirements in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, ParseSelectorError> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable() };
    let mut requirements = Vec::new();
    while parser.tokens.peek().is_some() {
        if !requirements.is_empty() {
            match parser.tokens.next() {
                Some(Token::Comma) => {}
                found => return Err(unexpected(found.as_ref(), "',' or 'end of string'")),
            }
        }
        requirements.push(parser.requirement()?);
    }
    Ok(requirements)
}

fn tokens(text: &str) -> Result<Vec<Token>, ParseSelectorError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            ' ' | '\t' | '\r' | '\n' => {
                rest = &rest[1..];
                continue;
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '>' => (Token::Above, 1),
            '<' => (Token::Below, 1),
            '=' => (Token::Equals, if rest.starts_with("==") { 2 } else { 1 }),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '!' => (Token::Not, 1),
            _ => {
                let end = rest.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<']).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), end)
            }
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser {
    fn requirement(&mut self) -> Result<Requirement, ParseSelectorError> {
        let absent = self.tokens.next_if_eq(&Token::Not).is_some();
        let key = match self.tokens.next() {
            Some(Token::Word(key)) => key,
            found => return Err(unexpected(found.as_ref(), if absent { "identifier" } else { "!, identifier" })),
        };
        valid::key(&key).map_err(ParseSelectorError)?;
        let condition = match self.tokens.peek() {
            _ if absent => Condition::DoesNotExist,
            None | Some(Token::Comma) => Condition::Exists,
            Some(_) => self.condition()?,
        };
        Ok(Requirement { key, condition })
    }

    fn condition(&mut self) -> Result<Condition, ParseSelectorError> {
        match self.tokens.next() {
            Some(Token::Equals) => Ok(Condition::In(BTreeSet::from([self.value()?]))),
            Some(Token::NotEquals) => Ok(Condition::NotIn(BTreeSet::from([self.value()?]))),
            Some(Token::Above) => Ok(Condition::Above(self.number()?)),
            Some(Token::Below) => Ok(Condition::Below(self.number()?)),
            Some(Token::Word(word)) if word == "in" => Ok(Condition::In(self.values()?)),
            Some(Token::Word(word)) if word == "notin" => Ok(Condition::NotIn(self.values()?)),
            found => Err(unexpected(found.as_ref(), "in, notin, =, ==, !=, >, <")),
        }
    }

    /// The value behind an operator; nothing there is the empty one.
    fn value(&mut self) -> Result<String, ParseSelectorError> {
        match self.tokens.peek() {
            None | Some(Token::Comma) => return Ok(String::new()),
            Some(_) => {}
        }
        let value = match self.tokens.next() {
            Some(Token::Word(value)) => value,
            found => return Err(unexpected(found.as_ref(), "identifier")),
        };
        valid::value(&value).map_err(ParseSelectorError)?;
        Ok(value)
    }

    fn number(&mut self) -> Result<i64, ParseSelectorError> {
        let value = self.value()?;
        value.parse().map_err(|_| ParseSelectorError(format!("{value:?} behind '>' or '<' must be a whole number")))
    }

    /// `(a,b)`; nothing before, between or behind commas is the empty value, and so is nothing at all.
    fn values(&mut self) -> Result<BTreeSet<String>, ParseSelectorError> {
        match self.tokens.next() {
            Some(Token::Open) => {}
            found => return Err(unexpected(found.as_ref(), "'('")),
        }
        if self.tokens.next_if_eq(&Token::Close).is_some() {
            return Ok(BTreeSet::from([String::new()]));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.tokens.next() {
                Some(Token::Word(value)) => {
                    valid::value(&value).map_err(ParseSelectorError)?;
                    values.insert(value);
                    match self.tokens.peek() {
                        Some(Token::Comma) => {}
                        Some(Token::Close) => break,
                        found => return Err(unexpected(found, "',' or ')'")),
                    }
                }
                Some(Token::Comma) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.tokens.peek() {
                        Some(Token::Close) => {
                            values.insert(String::new());
                            break;
                        }
                        Some(Token::Comma) => {
                            values.insert(String::new());
                            self.tokens.next();
                        }
                        _ => {}
                    }
                }
                found => return Err(unexpected(found.as_ref(), "',', or identifier")),
            }
        }
        self.tokens.next();
        Ok(values)
    }
}

fn unexpected(found: Option<&Token>, expected: &str) -> ParseSelectorError {
    let found = match found {
        None => "",
        Some(Token::Word(word)) => word,
        Some(Token::Open) => "(",
        Some(Token::Close) => ")",
        Some(Token::Comma) => ",",
        Some(Token::Not) => "!",
        Some(Token::Equals) => "=",
        Some(Token::NotEquals) => "!=",
        Some(Token::Above) => ">",
        Some(Token::Below) => "<",
    };
    ParseSelectorError(format!("found '{found}', expected: {expected}"))
}
