//! Text of all kinds, made from a seed: languages, code, data, noise.

/// Numbers from a seed (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
    pub fn below(&mut self, count: usize) -> usize {
        (self.roll() % count.max(1) as u64) as usize
    }
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

pub const LANGUAGES: &[&str] = &[
    "All human beings are born free and equal in dignity and rights. They're endowed with reason; it's theirs, don't YOU'LL agree?",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straßenbahnhaltestellenüberdachung kostet 12.345,67 €.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits. L'œuvre d'art s'achève aujourd'hui.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Cuánto cuesta? ¡Mañana será otro año!",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności. Zażółć gęślą jaźń, książę Żółć.",
    "Všichni lidé rodí se svobodní a sobě rovní. Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ığdır çiçeği.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах. Съешь ещё этих мягких булок.",
    "Усі люди народжуються вільними і рівними у своїй гідності та правах. Їжак п'є чай.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם עֲלֵיכֶם",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. السعر ١٢٣٤ ريالًا فقط.",
    "تمام انسان‌ها آزاد زاده می‌شوند و از لحاظ حیثیت و حقوق با هم برابرند. ۱۲۳۴۵",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है। १२३",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "మానవులందరు జన్మతః స్వతంత్రులును సమానులునగుదురు.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ราคา ๑๒๓ บาท",
    "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "人人生而自由，在尊嚴和權利上一律平等。「你好！」他說。",
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナとABC１２３。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 안녕하세요?",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ։",
    "ሰው ሁሉ ነጻና በክብር ሆኖ ተወልዷል።",
    "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa.",
    "😀 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ✨🔥💯 ¯\\_(ツ)_/¯ → ∑∫√∞ ≠ ½ ² ① Ⅻ ﷺ",
];

pub const CODE: &[&str] = &[
    include_str!("../split.rs"),
    include_str!("../bpe.rs"),
    include_str!("../../catalogue.json"),
    include_str!("../../../build.rs"),
    include_str!("../../../Cargo.toml"),
    include_str!("../../../../../README.md"),
    include_str!("../../../../../ARCHITECTURE.md"),
    "def f(x_1, *args, **kwargs):\n\treturn {k: v for k, v in zip(args, kwargs)} if x_1 >= 0x1F else None  # TODO\r\n",
    "SELECT u.id, COUNT(*) AS n FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.email LIKE '%@example.com' GROUP BY 1;\n",
    "<div class=\"row\"><a href=\"https://example.com/a/b?c=d&e=%20f#g\">Link</a></div>\n\n\n    <!-- x -->\n",
    "public static final Map<String, List<Integer>> MAX_HTTP2StreamIDs = new HashMap<>(); //////////\n",
    "{\"id\":\"9f8b7c6d-1234-5678-9abc-def012345678\",\"ts\":1700000000.123456,\"ok\":true,\"v\":[1,22,333,4444,55555]}\n",
    "\\frac{\\partial^2 u}{\\partial t^2} = c^2 \\nabla^2 u \\quad \\forall x \\in \\mathbb{R}^n\n",
    "    at com.example.Foo$Bar.baz(Foo.java:1234)\n\tat java.base/java.lang.Thread.run(Thread.java:829)\n",
];

/// Where the patterns' alternatives meet: letters of each class, marks, numbers, spaces, line ends, apostrophes.
const EDGES: &[&str] = &[
    "a",
    "b",
    "s",
    "S",
    "t",
    "T",
    "re",
    "VE",
    "ll",
    "d",
    "m",
    "A",
    "B",
    "Ab",
    "ß",
    "É",
    "é",
    "ǅ",
    "ʰ",
    "ª",
    "ſ",
    "K",
    "日",
    "本",
    "한",
    "א",
    "ع",
    "ा",
    "\u{301}",
    "\u{20dd}",
    "\u{fe0f}",
    "1",
    "22",
    "333",
    "4444",
    "٣",
    "½",
    "Ⅻ",
    "²",
    "'",
    "’",
    "'s",
    "'S",
    "'ſ",
    "'lL",
    "'Re",
    "'x",
    "''",
    "/",
    "//",
    "-",
    "--",
    "_",
    ".",
    "...",
    "!",
    "<|",
    "|>",
    "<|endoftext|>",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    " \n",
    "\n ",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{a0}",
    "\u{2003}",
    "\u{2028}",
    "\u{3000}",
    "\u{200b}",
    "\u{200d}",
    "\u{feff}",
    "\0",
    "\u{1f}",
    "\u{7f}",
    "😀",
    "👍🏽",
    "\u{10ffff}",
    "\u{e000}",
    "𝒳",
    "𐐀",
    "𐐨",
    "𝟛",
    "ﬀ",
    "ǰ",
];

pub fn noise(dice: &mut Dice, pieces: usize) -> String {
    let mut text = String::new();
    for _ in 0..pieces {
        match dice.below(24) {
            0 => text.extend(char::from_u32(dice.roll() as u32 % 0x11_0000)),
            1 => text.extend(char::from_u32(dice.roll() as u32 % 0x3000)),
            2 => text.push_str(&dice.one(EDGES).repeat(1 + dice.below(6))),
            _ => text.push_str(dice.one(EDGES)),
        }
    }
    text
}

fn slice(dice: &mut Dice, of: &[&'static str], longest: usize) -> &'static str {
    let text = dice.one(of);
    let from = text.floor_char_boundary(dice.below(text.len()));
    &text[from..text.floor_char_boundary(from + 1 + dice.below(longest))]
}

/// A document of this many slices.
pub fn document(dice: &mut Dice, slices: usize) -> String {
    let mut text = String::new();
    for _ in 0..slices {
        match dice.below(8) {
            0..4 => text.push_str(slice(dice, LANGUAGES, 400)),
            4..7 => text.push_str(slice(dice, CODE, 800)),
            _ => text.push_str(&noise(dice, 12)),
        }
        text.push_str(dice.one(&["", " ", "\n", "\n\n"]));
    }
    text
}

/// Long text in which no pattern finds an end.
pub fn unbroken(dice: &mut Dice, bytes: usize) -> String {
    let alphabets: &[&[&str]] = &[
        &["a"],
        &["a", "b"],
        &["ab", "ba", "aab"],
        &["e", "t", "a", "o", "i", "n", "s", "h", "r"],
        &["tion", "ing", "the", "er", "un", "re", "ization"],
        &["的", "一", "是", "不", "了", "人", "我", "在", "有", "他", "这"],
        &["ก", "า", "น", "ร", "เ", "ม", "ี"],
        &["-"],
        &["-", "="],
        &[" "],
        &["!", "?", "#", "$", "%", "&", "*"],
        &["😀", "👍", "🔥"],
        &["A", "B", "c", "d", "E"],
    ];
    let alphabet = dice.one(alphabets);
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(dice.one(alphabet));
    }
    text
}
