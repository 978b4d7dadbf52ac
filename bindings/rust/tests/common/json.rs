//! As much of JSON as the golden descriptions need.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    pub fn parse(text: &str) -> Json {
        let mut p = Parser(text.as_bytes());
        let v = p.value();
        p.space();
        assert!(p.0.is_empty(), "text behind the value");
        v
    }

    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(o) => o.get(key),
            other => panic!("{key} of {other:?}"),
        }
    }

    pub fn at(&self, key: &str) -> &Json {
        self.get(key).unwrap_or_else(|| panic!("no {key}"))
    }

    pub fn number(&self) -> u64 {
        match self {
            Json::Number(n) => *n,
            other => panic!("{other:?} is no number"),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Json::Text(s) => s,
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn list(&self) -> &[Json] {
        match self {
            Json::List(l) => l,
            other => panic!("{other:?} is no list"),
        }
    }

    /// The bytes that a text of hexadecimal digits stands for.
    pub fn bytes(&self) -> Vec<u8> {
        let s = self.text();
        (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect()
    }
}

struct Parser<'a>(&'a [u8]);

impl Parser<'_> {
    fn space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn next(&mut self) -> u8 {
        let c = self.0[0];
        self.0 = &self.0[1..];
        c
    }

    /// Whether `c` comes next; then it is taken.
    fn take(&mut self, c: u8) -> bool {
        self.space();
        let there = self.0.first() == Some(&c);
        if there {
            self.next();
        }
        there
    }

    fn value(&mut self) -> Json {
        if self.take(b'{') {
            let mut o = BTreeMap::new();
            while !self.take(b'}') {
                let key = self.value().text().to_string();
                assert!(self.take(b':'));
                assert!(o.insert(key, self.value()).is_none(), "a key twice");
                self.take(b',');
            }
            Json::Object(o)
        } else if self.take(b'[') {
            let mut l = Vec::new();
            while !self.take(b']') {
                l.push(self.value());
                self.take(b',');
            }
            Json::List(l)
        } else if self.take(b'"') {
            let n = self.0.iter().position(|c| *c == b'"').unwrap();
            let s = std::str::from_utf8(&self.0[..n]).unwrap();
            assert!(!s.contains('\\'), "no escapes here: {s}");
            self.0 = &self.0[n + 1..];
            Json::Text(s.to_string())
        } else {
            let n = self.0.iter().take_while(|c| c.is_ascii_digit()).count();
            let s = std::str::from_utf8(&self.0[..n]).unwrap();
            self.0 = &self.0[n..];
            Json::Number(s.parse().unwrap_or_else(|e| panic!("{s:?}: {e}")))
        }
    }
}
