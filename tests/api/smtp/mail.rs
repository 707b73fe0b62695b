//! What is in a mail.

use std::fmt;

use mail_parser::decoders::html::html_to_text;
use mail_parser::{HeaderForm, Message, MessageParser, PartType};
use url::Url;

/// A mail as it was received.
#[derive(Clone)]
pub struct Mail {
    pub envelope_from: String,
    pub envelope_to: Vec<String>,
    pub raw: Vec<u8>,
    pub subject: String,
    /// The text part, decoded and with Unix line ends; empty if there is none.
    pub text: String,
    /// The same of the HTML part.
    pub html: String,
}

impl Mail {
    pub fn parse(envelope_from: String, envelope_to: Vec<String>, raw: Vec<u8>) -> Self {
        let message = parse(&raw);
        let subject = message.subject().unwrap_or_default().to_owned();
        let [mut text, mut html] = [String::new(), String::new()];
        for part in &message.parts {
            match &part.body {
                PartType::Text(body) => text += &body.replace("\r\n", "\n"),
                PartType::Html(body) => html += &body.replace("\r\n", "\n"),
                _ => {}
            }
        }
        Self { envelope_from, envelope_to, raw, subject, text, html }
    }

    pub fn is_to(&self, address: &str) -> bool {
        self.envelope_to.iter().any(|to| to == address)
    }

    /// A header, decoded and on one line.
    pub fn header(&self, name: &str) -> Option<String> {
        let message = parse(&self.raw);
        let values = message.header_as(name.to_owned(), HeaderForm::Text);
        values.first().map(|value| value.as_text().unwrap_or_default().to_owned())
    }

    /// The only web link of the text part, which is the only one of the HTML part too.
    #[track_caller]
    pub fn link(&self) -> String {
        let words = self.text.split(|c: char| c.is_whitespace() || "<>\"".contains(c));
        let links: Vec<_> = words.filter(|word| is_web(word)).collect();
        let hrefs = self.html.split("href=\"").skip(1);
        let hrefs = hrefs.map(|rest| html_to_text(rest.split('"').next().unwrap_or_default()));
        let mut hrefs: Vec<_> = hrefs.filter(|href| is_web(href)).collect();
        hrefs.dedup();
        assert_eq!(links.len(), 1, "{self:?}");
        assert_eq!(links, hrefs, "{self:?}");
        links[0].to_owned()
    }

    /// The `token` in the link's query.
    #[track_caller]
    pub fn token(&self) -> String {
        let link = Url::parse(&self.link()).unwrap();
        let mut tokens = link.query_pairs().filter(|(name, _)| name == "token");
        tokens.next().expect("a token in the link").1.into_owned()
    }

    /// The only code of the text part, which is the only one of the HTML part too: without the
    /// hyphen, 8 characters.
    #[track_caller]
    pub fn code(&self) -> String {
        let codes = codes(&self.text);
        let html = self.html.split('<').filter_map(|tag| tag.split_once('>'));
        let html: Vec<_> = html.map(|(_, text)| text).collect();
        assert_eq!(codes.len(), 1, "{self:?}");
        assert_eq!(codes, self::codes(&html.join(" ")), "{self:?}");
        codes[0].replace('-', "")
    }
}

/// Without what a failed test need not show.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("from", &self.envelope_from)
            .field("to", &self.envelope_to)
            .field("subject", &self.subject)
            .field("text", &self.text)
            .field("html", &self.html)
            .finish()
    }
}

fn parse(raw: &[u8]) -> Message<'_> {
    MessageParser::default().parse(raw).expect("a mail")
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// All that is printed in two groups of four, in Crockford's Base32.
fn codes(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let is_code = |word: &&str| {
        word.len() == 9
            && word.char_indices().all(|(at, c)| match c {
                '-' => at == 4,
                'I' | 'L' | 'O' | 'U' => false,
                _ => at != 4 && (c.is_ascii_digit() || c.is_ascii_uppercase()),
            })
    };
    words.filter(is_code).collect()
}
