//! Whether a text is in a language: by the script of its letters and, where several languages share one, by their commonest
//! words. The harness uses `langdetect`, a trained model whose answers vary from run to run.

/// Common words that tell languages of one script apart.
const WORDS: &[(&str, &[&str])] = &[
    (
        "en",
        &[
            "the", "and", "of", "to", "is", "in", "that", "it", "you", "for", "with", "are", "this", "i",
            "a", "my", "your", "be",
        ],
    ),
    (
        "de",
        &[
            "der", "die", "und", "das", "ist", "nicht", "ein", "eine", "zu", "mit", "den", "sie", "ich",
            "von", "für", "auf",
        ],
    ),
    (
        "fr",
        &[
            "le", "la", "les", "et", "des", "est", "un", "une", "que", "pour", "dans", "vous", "je", "du",
            "pas", "qui", "il",
        ],
    ),
    (
        "es",
        &[
            "el", "la", "los", "de", "que", "y", "en", "un", "una", "es", "por", "con", "para", "las", "del",
            "no", "su",
        ],
    ),
    (
        "pt",
        &[
            "o", "os", "de", "que", "e", "em", "um", "uma", "é", "para", "com", "não", "as", "do", "da",
            "por", "seu",
        ],
    ),
    (
        "it",
        &[
            "il", "di", "che", "e", "la", "un", "una", "è", "per", "non", "con", "sono", "gli", "della",
            "del", "le", "si",
        ],
    ),
    ("nl", &["de", "het", "een", "en", "van", "is", "dat", "niet", "ik", "op", "te", "met", "voor", "zijn"]),
    (
        "fi",
        &[
            "ja", "on", "ei", "se", "että", "oli", "hän", "mutta", "ovat", "kun", "niin", "tai", "myös",
            "minä",
        ],
    ),
    ("pl", &["i", "w", "na", "nie", "się", "z", "jest", "do", "to", "że", "o", "jak", "dla", "są"]),
    (
        "sw",
        &["na", "ya", "wa", "kwa", "ni", "katika", "za", "la", "kuwa", "hii", "cha", "hiyo", "yako", "watu"],
    ),
    (
        "vi",
        &[
            "và", "của", "là", "không", "có", "được", "cho", "một", "trong", "với", "những", "người", "các",
            "để",
        ],
    ),
    ("tr", &["ve", "bir", "bu", "için", "ile", "de", "da", "çok", "olarak", "ben", "ne", "var", "daha"]),
    ("ru", &["и", "в", "не", "на", "что", "с", "я", "это", "как", "по", "для", "он", "мы"]),
    ("bg", &["и", "на", "да", "е", "се", "от", "за", "че", "са", "като", "си", "ще", "с"]),
    ("uk", &["і", "в", "не", "на", "що", "та", "я", "це", "як", "з", "для", "є", "ми"]),
    ("ar", &["في", "من", "على", "إلى", "أن", "هذا", "التي", "هذه", "عن", "مع", "ما", "لا", "كان"]),
    ("fa", &["و", "در", "به", "از", "که", "این", "را", "با", "است", "برای", "آن", "یک", "می"]),
    ("ur", &["کے", "میں", "کی", "ہے", "اور", "سے", "کو", "کا", "ہیں", "یہ", "پر", "نے", "ایک"]),
    ("hi", &["के", "है", "में", "की", "और", "से", "का", "को", "हैं", "यह", "एक", "पर", "नहीं"]),
    ("mr", &["आहे", "आणि", "या", "मध्ये", "आहेत", "हे", "ते", "एक", "नाही", "च्या", "मी", "होते"]),
    ("ne", &["छ", "र", "को", "मा", "यो", "पनि", "छन्", "हो", "गर्न", "लागि", "म", "तपाईं"]),
];

/// A script, by the block of its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Latin,
    Cyrillic,
    Greek,
    Hebrew,
    Arabic,
    Devanagari,
    Bengali,
    Gurmukhi,
    Gujarati,
    Tamil,
    Telugu,
    Kannada,
    Malayalam,
    Thai,
    Korean,
    Japanese,
    Chinese,
    Other,
}

fn script(letter: char) -> Script {
    match u32::from(letter) {
        0x41..=0x24f | 0x1e00..=0x1eff => Script::Latin,
        0x370..=0x3ff => Script::Greek,
        0x400..=0x52f => Script::Cyrillic,
        0x590..=0x5ff => Script::Hebrew,
        0x600..=0x77f | 0xfb50..=0xfdff | 0xfe70..=0xfeff => Script::Arabic,
        0x900..=0x97f => Script::Devanagari,
        0x980..=0x9ff => Script::Bengali,
        0xa00..=0xa7f => Script::Gurmukhi,
        0xa80..=0xaff => Script::Gujarati,
        0xb80..=0xbff => Script::Tamil,
        0xc00..=0xc7f => Script::Telugu,
        0xc80..=0xcff => Script::Kannada,
        0xd00..=0xd7f => Script::Malayalam,
        0xe00..=0xe7f => Script::Thai,
        0x1100..=0x11ff | 0xac00..=0xd7af => Script::Korean,
        0x3040..=0x30ff => Script::Japanese,
        0x3400..=0x9fff => Script::Chinese,
        _ => Script::Other,
    }
}

fn script_of(language: &str) -> Script {
    match language {
        "ru" | "bg" | "uk" | "mk" | "sr" => Script::Cyrillic,
        "el" => Script::Greek,
        "he" => Script::Hebrew,
        "ar" | "fa" | "ur" => Script::Arabic,
        "hi" | "mr" | "ne" => Script::Devanagari,
        "bn" => Script::Bengali,
        "pa" => Script::Gurmukhi,
        "gu" => Script::Gujarati,
        "ta" => Script::Tamil,
        "te" => Script::Telugu,
        "kn" => Script::Kannada,
        "ml" => Script::Malayalam,
        "th" => Script::Thai,
        "ko" => Script::Korean,
        "ja" => Script::Japanese,
        "zh" | "zh-cn" | "zh-tw" => Script::Chinese,
        _ => Script::Latin,
    }
}

/// Whether a text is in a language, by its code. One without any letters is in every language.
pub(super) fn is(text: &str, language: &str) -> bool {
    let letters: Vec<Script> = text.chars().filter(|c| c.is_alphabetic()).map(script).collect();
    if letters.is_empty() {
        return true;
    }
    let share = |wanted: Script| {
        letters.iter().filter(|script| **script == wanted).count() as f64 / letters.len() as f64
    };
    let wanted = script_of(language);
    let own = match wanted {
        // Japanese has Chinese characters too, but not without its own.
        Script::Japanese if share(Script::Japanese) > 0.1 => share(Script::Japanese) + share(Script::Chinese),
        Script::Chinese if share(Script::Japanese) > 0.1 => 0.0,
        _ => share(wanted),
    };
    if own < 0.5 {
        return false;
    }
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphabetic() && !is_mark(c))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let n_known = |common: &[&str]| words.iter().filter(|word| common.contains(&word.as_str())).count();
    let rivals = WORDS.iter().filter(|(code, _)| script_of(code) == wanted);
    let own = WORDS.iter().find(|(code, _)| *code == language).map(|(_, common)| n_known(common));
    let best = rivals.map(|(_, common)| n_known(common)).max().unwrap_or(0);
    own.is_none_or(|own| own >= best)
}

/// Vowel signs of Indic scripts, which are no letters and part no words.
fn is_mark(c: char) -> bool {
    matches!(u32::from(c), 0x900..=0xd7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_cases() {
        for (text, language, expected) in [
            ("THE CAT IS ON THE MAT AND IT SLEEPS", "en", true),
            ("Die Katze liegt auf der Matte und schläft", "en", false),
            ("Die Katze liegt auf der Matte und schläft", "de", true),
            ("बिल्ली चटाई पर है और सो रही है", "hi", true),
            ("The cat is on the mat", "hi", false),
            ("ネコはマットの上で眠っている", "ja", true),
            ("猫在垫子上睡觉", "ja", false),
            ("القط على السجادة في البيت", "ar", true),
            ("123 456", "en", true),
        ] {
            assert_eq!(is(text, language), expected, "{text} {language}");
        }
    }
}
