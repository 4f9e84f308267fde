//! What images, documents, sound and films count, by their providers' published rules.

use attache_protocol::base64;
use attache_protocol::request::{Media, MediaKind, Source};

use super::Bounds;
use super::family::Family;
use super::image;

/// How a family of models counts an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Images {
    /// OpenAI: within 2048 × 2048, then the shorter side to 768, then tiles of 512 × 512; `detail: low` is the base alone.
    Tiles {
        base: u64,
        tile: u64,
    },
    /// OpenAI: within 2048 × 2048, then patches of 32 × 32 up to a budget, each so many hundredths of a token.
    Patches {
        percent: u64,
        budget: u64,
    },
    /// Anthropic: patches of 28 × 28 after the longer edge and the number of patches are brought below their limits. Before,
    /// it was width × height / 750.
    Claude {
        edge: u64,
        most: u64,
    },
    /// Google: 258 if both sides are up to 384, else for each tile of 768 × 768; or the same for every image.
    Gemini {
        flat: Option<u64>,
    },
    Unknown,
}

/// An image of which nothing is known is taken to have this size.
const USUAL: (u64, u64) = (1024, 1024);

/// What a part's media add to the prompt. Text is told to `text`.
pub fn media(family: &Family, media: &Media<'_>) -> Bounds {
    match media.kind {
        MediaKind::Image => picture(family, media),
        MediaKind::Document => document(family, &media.source),
        MediaKind::Audio => sound(family, &media.source),
        MediaKind::Video => film(family, &media.source),
    }
}

fn picture(family: &Family, media: &Media<'_>) -> Bounds {
    let size = match &media.source {
        Source::Inline { base64: data, .. } => image::size(data),
        _ => None,
    };
    let size = size.map(|(width, height)| (u64::from(width), u64::from(height)));
    family.images.of(size, media.detail.as_deref())
}

impl Images {
    /// An image of this size; without one, the bounds are those of all images.
    pub fn of(self, size: Option<(u64, u64)>, detail: Option<&str>) -> Bounds {
        let low_detail = detail == Some("low");
        let (likely, least, most) = match self {
            Images::Tiles { base, .. } if low_detail => return Bounds::exactly(base),
            Images::Tiles { base, tile } => {
                let count = |size| base + tile * tiles(size);
                let known = size.map(count);
                // Which detail `auto` means is the provider's choice.
                let least = if detail == Some("high") { known.unwrap_or(base + tile) } else { base };
                (count(size.unwrap_or(USUAL)), least, known.unwrap_or(base + 8 * tile))
            }
            Images::Patches { percent, budget } => {
                let count = |size, budget| (patches(size, budget) * percent).div_ceil(100);
                // Until 2025 the budget was 1536.
                let least = count(size.unwrap_or((1, 1)), 1536);
                let most = size.map_or((budget * percent).div_ceil(100), |size| count(size, budget));
                (count(size.unwrap_or(USUAL), budget), least, most)
            }
            Images::Claude { edge, most } => {
                let count = |size| claude(size, edge, most);
                let area = |(width, height): (u64, u64)| (width * height).div_ceil(750).min(most.max(1600));
                let known = size.map(|size| (count(size).min(area(size)), count(size).max(area(size))));
                let (least, most) = known.unwrap_or((1, most));
                (count(size.unwrap_or(USUAL)), least.min(most), most)
            }
            Images::Gemini { flat } => {
                let known = size.map(gemini);
                let likely = flat.unwrap_or_else(|| known.unwrap_or(258));
                // 64 with the lowest `mediaResolution`; an image of unknown size is hardly more than four times as long as wide.
                (likely, 64, likely.max(known.unwrap_or(12 * 258)))
            }
            Images::Unknown => {
                // About what most of the others make of it.
                let count = |size| claude(size, 2048, 4096);
                (count(size.unwrap_or(USUAL)), 1, size.map_or(8192, |size| 2 * count(size) + 64))
            }
        };
        Bounds { low: least.min(likely), likely, high: most.max(likely) }
    }
}

/// The size within a square, keeping its proportions.
fn within((width, height): (u64, u64), edge: u64) -> (u64, u64) {
    let longer = width.max(height);
    if longer <= edge {
        return (width, height);
    }
    ((width * edge / longer).max(1), (height * edge / longer).max(1))
}

fn tiles(size: (u64, u64)) -> u64 {
    let (width, height) = within(size, 2048);
    let shorter = width.min(height);
    let (width, height) =
        if shorter > 768 { (width * 768 / shorter, height * 768 / shorter) } else { (width, height) };
    width.div_ceil(512) * height.div_ceil(512)
}

fn patches(size: (u64, u64), budget: u64) -> u64 {
    let (width, height) = within(size, 2048);
    (width.div_ceil(32) * height.div_ceil(32)).min(budget)
}

/// The largest size of these proportions within both limits, by halving.
fn claude(size: (u64, u64), edge: u64, most: u64) -> u64 {
    let count = |longest| {
        let (width, height) = within(size, longest);
        width.div_ceil(28) * height.div_ceil(28)
    };
    let (mut fits, mut too_long) = (1, edge + 1);
    while fits + 1 < too_long {
        let middle = fits.midpoint(too_long);
        if count(middle) <= most { fits = middle } else { too_long = middle }
    }
    count(fits)
}

fn gemini((width, height): (u64, u64)) -> u64 {
    if width.max(height) <= 384 {
        return 258;
    }
    let unit = (width.min(height) * 2 / 3).max(1);
    258 * (width.div_ceil(unit) * height.div_ceil(unit)).min(3600)
}

/// More pages than this no provider takes (Anthropic 600, Google 1000).
const MOST_PAGES: u64 = 1000;
/// Of larger documents the pages are guessed.
const READABLE: usize = 1 << 20;

/// A page is an image and its text: Anthropic's "1,500–3,000 tokens per page" of text and the image, Google's 258 (from
/// Gemini 3 on the image's medium resolution, 560), OpenAI's text and an image of unknown size.
fn document(family: &Family, source: &Source<'_>) -> Bounds {
    let pages = pages(source);
    let page = match family.images {
        Images::Gemini { flat: None } => Bounds { low: 258, likely: 258, high: 258 },
        Images::Gemini { flat: Some(_) } => Bounds { low: 258, likely: 560, high: 1120 },
        Images::Claude { most, .. } => Bounds { low: 400, likely: 2300, high: 3000 + most },
        other => Bounds { low: 50, likely: 1000, high: 3000 + other.of(None, None).high },
    };
    Bounds { low: pages.low * page.low, likely: pages.likely * page.likely, high: pages.high * page.high }
}

fn pages(source: &Source<'_>) -> Bounds {
    let Source::Inline { base64: data, .. } = source else {
        return Bounds { low: 1, likely: 4, high: 100 };
    };
    let bytes = data.len() as u64 / 4 * 3;
    // A page has some hundred bytes at least, and about 40 kB.
    let guessed = Bounds { low: 1, likely: 1 + bytes / 40_000, high: (1 + bytes / 500).min(MOST_PAGES) };
    let read = || if data.len() <= READABLE { base64::decode(data) } else { None };
    match read().map(|bytes| page_objects(&bytes)).filter(|pages| *pages > 0) {
        Some(pages) => {
            Bounds { low: 1, likely: pages.min(MOST_PAGES), high: guessed.high.max(pages).min(MOST_PAGES) }
        }
        None => guessed,
    }
}

/// Objects of `/Type /Page`, as far as they are not compressed.
fn page_objects(pdf: &[u8]) -> u64 {
    const TYPE: &[u8] = b"/Type";
    let found = pdf.windows(TYPE.len()).enumerate().filter(|(_, window)| *window == TYPE);
    let is_page = |at: usize| {
        let rest = pdf.get(at + TYPE.len()..).unwrap_or_default().trim_ascii_start();
        rest.strip_prefix(b"/Page").is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphabetic))
    };
    found.filter(|(at, _)| is_page(*at)).count() as u64
}

/// Google: 32 tokens a second; OpenAI: ten, as recorded traffic of `gpt-audio` has it.
fn sound(family: &Family, source: &Source<'_>) -> Bounds {
    let a_second = if matches!(family.images, Images::Gemini { .. }) { 32 } else { 10 };
    times(seconds(source, [40_000, 16_000, 1_000]), a_second)
}

/// Google: 263 tokens a second; from Gemini 3 on 70 a frame and the sound.
fn film(family: &Family, source: &Source<'_>) -> Bounds {
    let a_second = if matches!(family.images, Images::Gemini { flat: Some(_) }) { 102 } else { 263 };
    times(seconds(source, [2_000_000, 250_000, 20_000]), a_second)
}

fn times(tenths: Bounds, a_second: u64) -> Bounds {
    let count = |tenths: u64| (tenths * a_second).div_ceil(10);
    Bounds { low: count(tenths.low), likely: count(tenths.likely), high: count(tenths.high) }
}

/// Tenths of seconds, by the file's header (WAV) or by its length, at the most, the usual and the fewest bytes a second.
fn seconds(source: &Source<'_>, rates: [u64; 3]) -> Bounds {
    let Source::Inline { base64: data, .. } = source else {
        return Bounds { low: 0, likely: 600, high: 36_000 };
    };
    let bytes = data.len() as u64 / 4 * 3;
    let header = data.get(..data.len().min(64)).and_then(base64::decode).unwrap_or_default();
    if let [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] = &*header
        && let Some(Ok(rate)) = header.get(28..32).map(<[u8; 4]>::try_from)
        && u32::from_le_bytes(rate) > 0
    {
        let tenths = 10 * bytes / u64::from(u32::from_le_bytes(rate));
        return Bounds { low: tenths.saturating_sub(1), likely: tenths, high: tenths + 2 };
    }
    let [most, usual, fewest] = rates.map(|rate| 10 * bytes / rate);
    Bounds { low: most, likely: usual, high: fewest + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The providers' own examples.
    #[test]
    fn images_count_as_their_pages_say() {
        let likely = |images: Images, size| images.of(Some(size), None).likely;
        let gpt_4o = Images::Tiles { base: 85, tile: 170 };
        assert_eq!(likely(gpt_4o, (1024, 1024)), 765);
        assert_eq!(likely(gpt_4o, (2048, 4096)), 1105);
        assert_eq!(likely(gpt_4o, (128, 64)), 255);
        assert_eq!(gpt_4o.of(Some((4096, 8192)), Some("low")), Bounds::exactly(85));
        assert_eq!(likely(Images::Tiles { base: 70, tile: 140 }, (1920, 1080)), 910);
        assert_eq!(gpt_4o.of(None, None).high, 1445);
        assert_eq!(likely(Images::Patches { percent: 100, budget: 1536 }, (1024, 1024)), 1024);
        assert_eq!(likely(Images::Patches { percent: 162, budget: 6144 }, (1920, 1080)), 3305);
        assert_eq!(likely(Images::Patches { percent: 120, budget: 6144 }, (4032, 3024)), 3687);
        let (before, since) =
            (Images::Claude { edge: 1568, most: 1568 }, Images::Claude { edge: 2576, most: 4784 });
        for (size, standard, high) in [
            ((1920, 1080), 1560, 2691),
            ((2560, 1440), 1560, 4784),
            ((4032, 3024), 1564, 4740),
            ((2048, 1227), 1530, 3256),
        ] {
            assert_eq!((likely(before, size), likely(since, size)), (standard, high), "{size:?}");
        }
        assert_eq!(likely(before, (1000, 1000)), 1296);
        let gemini = Images::Gemini { flat: None };
        for (size, tiles) in [((384, 384), 1), ((960, 540), 6), ((1920, 1080), 6), ((4032, 3024), 4)] {
            assert_eq!(likely(gemini, size), 258 * tiles, "{size:?}");
        }
    }

    #[test]
    fn bounds_are_in_order_and_hold_what_is_likely() {
        let all = [
            Images::Tiles { base: 85, tile: 170 },
            Images::Patches { percent: 120, budget: 2500 },
            Images::Claude { edge: 2576, most: 4784 },
            Images::Gemini { flat: None },
            Images::Gemini { flat: Some(1120) },
            Images::Unknown,
        ];
        let sizes = [
            (1, 1),
            (1, 65_535),
            (u64::from(u32::MAX), 1),
            (65_535, 65_535),
            (300, 200),
            (u64::from(u32::MAX), u64::from(u32::MAX)),
        ];
        for images in all {
            for detail in [None, Some("low"), Some("high"), Some("auto"), Some("original")] {
                for size in sizes.map(Some).into_iter().chain([None]) {
                    let Bounds { low, likely, high } = images.of(size, detail);
                    assert!(
                        low <= likely && likely <= high && high < 10_000_000,
                        "{images:?} {size:?} {detail:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn pages_and_seconds_are_read() {
        let pdf = b"%PDF-1.4 1 0 obj <</Type /Pages /Count 2>> <</Type /Page/X 1>> <</Type/Page>>";
        let source =
            |bytes: &[u8]| Source::Inline { mime: "a/b".into(), base64: base64::encode(bytes).into() };
        assert_eq!(pages(&source(pdf)).likely, 2);
        let mut wav =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data".to_vec();
        wav.extend(vec![0; 48_000]);
        let tenths = seconds(&source(&wav), [1, 1, 1]);
        assert_eq!(tenths.likely, 15);
        assert_eq!(times(tenths, 10).likely, 15);
    }
}
