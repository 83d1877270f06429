// Text that somebody else had a hand in, on its way to a terminal, which it must not drive.

/** Control characters (C0, DEL, C1) and the marks that turn the direction of text, written out. */
export const printable = (text: string): string =>
  text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, character => {
    const code = character.codePointAt(0) as number
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`
  })

/** The same for JSON as `JSON.stringify` writes it, which leaves what lies above U+001F as it is: escaped, it stays the same value. */
export const printableJson = (json: string): string =>
  json.replace(
    /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
