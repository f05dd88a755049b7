/**
 * The forms in which a key can lie about in memory: itself, its texts, pieces of those, and the round keys AES makes of
 * it (any two neighbours of which give the key back). Source of the key expansion: FIPS 197, 5.2 and 5.3.5.
 */

export interface KeyForm {
  /**
   * `raw`, `base64`, `base64url`, `hex`, `HEX`, `round key`, `inverse round key`; texts of 16-bit characters end in
   * `/utf16`.
   */
  form: string;
  bytes: Buffer;
}

const PIECE_BYTES = 16;
/** Half a piece: any run of 23 bytes or characters of the key holds a whole piece. */
const PIECE_STEP = 8;

const double = (a: number): number => ((a << 1) ^ (a & 0x80 ? 0x11b : 0)) & 0xff;

function multiply(a: number, b: number): number {
  let product = 0;
  for (let power = a, bits = b; bits !== 0; bits >>= 1, power = double(power)) if (bits & 1) product ^= power;
  return product;
}

/** FIPS 197, 5.1.1: the inverse in GF(2^8), then the affine transformation. */
const SUBSTITUTION = Uint8Array.from({ length: 256 }, (_, value) => {
  let inverse = 0;
  for (let candidate = 1; value !== 0 && inverse === 0; candidate++) if (multiply(value, candidate) === 1) inverse = candidate;
  const rotated = [0, 1, 2, 3, 4].reduce((sum, by) => sum ^ ((inverse << by) | (inverse >> (8 - by))), 0);
  return (rotated ^ 0x63) & 0xff;
});

/** The round keys of a key of 16 or 32 bytes: 11 or 15 of 16 bytes each. */
export function roundKeys(key: Buffer): Buffer[] {
  const keyWords = key.length / 4;
  const rounds = keyWords + 6;
  const words: number[][] = Array.from({ length: keyWords }, (_, i) => [...key.subarray(4 * i, 4 * i + 4)]);
  let constant = 1;
  for (let i = keyWords; i < 4 * (rounds + 1); i++) {
    let word = words[i - 1]!;
    if (i % keyWords === 0) {
      word = [...word.slice(1), word[0]!].map((byte) => SUBSTITUTION[byte]!);
      word[0]! ^= constant;
      constant = double(constant);
    } else if (keyWords > 6 && i % keyWords === 4) {
      word = word.map((byte) => SUBSTITUTION[byte]!);
    }
    words.push(word.map((byte, column) => byte ^ words[i - keyWords]![column]!));
  }
  return Array.from({ length: rounds + 1 }, (_, round) => Buffer.from(words.slice(4 * round, 4 * round + 4).flat()));
}

/** InvMixColumns of one round key: how the equivalent inverse cipher keeps it. */
function inverseRoundKey(roundKey: Buffer): Buffer {
  return Buffer.from(
    roundKey.map((_, at) => {
      const column = at & ~3;
      return [14, 11, 13, 9].reduce((sum, factor, i) => sum ^ multiply(roundKey[column + ((at + i) & 3)]!, factor), 0);
    }),
  );
}

/** Words as a little-endian machine's 32-bit integers: how table-driven code keeps its schedule. */
const wordsSwapped = (bytes: Buffer): Buffer => Buffer.from(bytes).swap32();

function scheduleForms(aesKey: Buffer): KeyForm[] {
  const schedule = roundKeys(aesKey);
  // The first round keys are the key itself and are found as `raw`.
  const later = schedule.slice(aesKey.length / 16);
  const inverse = schedule.slice(1, -1).map(inverseRoundKey);
  return [
    ...[...later, ...later.map(wordsSwapped)].map((bytes) => ({ form: 'round key', bytes })),
    ...[...inverse, ...inverse.map(wordsSwapped)].map((bytes) => ({ form: 'inverse round key', bytes })),
  ];
}

function pieces(form: string, bytes: Buffer, step = PIECE_STEP): KeyForm[] {
  const starts = Array.from({ length: Math.floor((bytes.length - PIECE_BYTES) / step) + 1 }, (_, i) => i * step);
  return starts.map((start) => ({ form, bytes: bytes.subarray(start, start + PIECE_BYTES) }));
}

function textForms(form: string, text: string): KeyForm[] {
  return [...pieces(form, Buffer.from(text, 'latin1')), ...pieces(`${form}/utf16`, Buffer.from(text, 'utf16le'))];
}

/**
 * base64 of a key that begins at another place of a longer text: three alignments, without the characters that
 * neighbours share.
 */
function base64Forms(key: Buffer): KeyForm[] {
  return [0, 1, 2].flatMap((skipped) => {
    const whole = key.subarray(skipped, key.length - ((key.length - skipped) % 3));
    return [...textForms('base64', whole.toString('base64')), ...textForms('base64url', whole.toString('base64url'))];
  });
}

/**
 * Every form of a key of 32 or 64 bytes, as pieces of 16 bytes to look for: a 32-byte key both as one AES-256 key (a
 * KMS master key) and as the two of AES-128-XTS.
 */
export function keyForms(key: Buffer): KeyForm[] {
  const hex = key.toString('hex');
  const half = key.length / 2;
  const aesKeys = [key.subarray(0, half), key.subarray(half), ...(key.length === 32 ? [key] : [])];
  const forms = [
    ...pieces('raw', key),
    ...pieces('raw', wordsSwapped(key)),
    ...base64Forms(key),
    ...textForms('hex', hex),
    ...textForms('HEX', hex.toUpperCase()),
    ...aesKeys.flatMap(scheduleForms),
  ];
  const seen = new Set<string>();
  return forms.filter(({ bytes }) => {
    const text = bytes.toString('latin1');
    return !seen.has(text) && seen.add(text);
  });
}
