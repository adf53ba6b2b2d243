//! The file as written: a tree in which every key and every value knows its line.
//!
//! It is built from the parser's events rather than through serde, which stops at the first fault, drops one of two
//! equal keys before anybody sees them, and turns text into numbers and back. Here a scalar stays the text that was
//! written; what it means is decided by whoever knows its key. Nothing is expanded: an alias is kept as such and
//! refused later, so that a file is never larger than it looks.

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::fault::Fault;

/// The configuration is four levels deep. The limit keeps the recursion below flat; block and flow nesting are
/// counted apart.
const NESTING_MAX: usize = 16;

/// A value and the line it starts on.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
    /// It carries an anchor or a tag.
    pub(super) marked: bool,
}

/// What stands behind a key or a dash.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Nothing,
    /// A scalar; `plain` if it is not quoted.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, with all its keys in the order of the file, equal ones too.
    Map(Vec<Entry>),
    /// A reference to another value.
    Alias,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: u32,
    pub(super) key: String,
    pub(super) node: Node,
}

/// The tree of the one document in `text`.
///
/// # Errors
/// Text that is not YAML, more than one document, or a key that is not a scalar.
pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.emit_unresolved_aliases = true;
    options.disallow_directives = true;
    options.block_nesting_limit = NESTING_MAX;
    options.flow_nesting_limit = NESTING_MAX;
    let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options) };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            event if event.is_node() && root.is_some() => {
                return Err(fault(line_of(&span), "a second document begins here; the configuration is one document"));
            }
            event if event.is_node() => root = Some(reader.node(event, &span)?),
            _ => {}
        }
    }
    Ok(root.unwrap_or(Node { line: 1, value: Value::Nothing, marked: false }))
}

struct Reader<'text> {
    parser: Parser<'text, StrInput<'text>>,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(syntax_fault(&error)),
            // The parser ends with StreamEnd and is not asked again; were it otherwise, the document is over too.
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'text>, span: &Span) -> Result<Node, Fault> {
        let marked = event.anchor_id().is_some_and(|anchor| anchor != 0) || event.tag().is_some();
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text.into_owned(), style),
            Event::SequenceStart(..) => Value::List(self.list()?),
            Event::MappingStart(..) => Value::Map(self.map()?),
            _ => Value::Alias,
        };
        Ok(Node { line: line_of(span), value, marked })
    }

    fn list(&mut self) -> Result<Vec<Node>, Fault> {
        let mut nodes = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(nodes);
            }
            nodes.push(self.node(event, &span)?);
        }
    }

    fn map(&mut self) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let line = line_of(&span);
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(fault(line, "a key must be a plain word")),
            };
            let (event, span) = self.next()?;
            entries.push(Entry { line, key, node: self.node(event, &span)? });
        }
    }
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    let plain = style == ScalarStyle::Plain;
    if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Value::Nothing;
    }
    Value::Scalar { text, plain }
}

fn line_of(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

/// The parser's own sentences name brackets and constructs, never what stands in the file.
fn syntax_fault(error: &ScanError) -> Fault {
    let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
    fault(line, &format!("is not YAML: {}", error.info()))
}

fn fault(line: u32, sentence: &str) -> Fault {
    Fault { path: String::new(), line: Some(line), sentence: sentence.to_owned() }
}
