//! Names for people: what cannot be seen in them, or turns text around, stands there as its number.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// A text from outside as people write it. Only what a terminal or a browser obeys, or what cannot be seen,
/// stands there as its number.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_seen(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

fn is_seen(character: char) -> bool {
    if matches!(character, ' '..='~') {
        return true;
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    let is_obeyed = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    let is_invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character);
    !is_obeyed && !is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_people_write_it_and_nothing_in_it_is_obeyed() {
        for name in [
            "Müller",
            "Mu\u{308}ller",
            "日本",
            "Ωμέγα",
            "שלום",
            "naïve 'x' \"y\" \\z",
            "🔑",
        ] {
            assert_eq!(printable(name), name);
        }
        for (name, shown) in [
            ("a\u{1b}[31m", r"a\u{1b}[31m"),
            ("a\r\nb\t", r"a\u{d}\u{a}b\u{9}"),
            ("\u{7f}\u{9b}31m\u{85}", r"\u{7f}\u{9b}31m\u{85}"),
            ("a\u{202e}b\u{2066}\u{200f}", r"a\u{202e}b\u{2066}\u{200f}"),
            (
                "a\u{200b}\u{feff}\u{ad}\u{2060}",
                r"a\u{200b}\u{feff}\u{ad}\u{2060}",
            ),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("\u{3164}\u{fe0f}\u{e0041}", r"\u{3164}\u{fe0f}\u{e0041}"),
        ] {
            assert_eq!(printable(name), shown);
        }
    }
}
