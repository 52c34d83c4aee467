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
