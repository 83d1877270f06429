// A file of policies to its statements with their places, so that every fault can be shown with its line, and one that cannot be parsed
// does not hide those after it. Only what ends a statement is known here; what a statement means is Cedar's.

export interface StatementText {
  readonly text: string
  /** Offset of `text` in the file, in UTF-16 units. */
  readonly start: number
}

/** Comments to the end of a line, text in quotation marks with escapes, and what ends a statement. */
const tokens = /\/\/[^\n]*|"(?:[^"\\]|\\[\s\S])*"?|;/g

const isBlank = (text: string): boolean => text.replace(/\/\/[^\n]*/g, '').trim() === ''

/** Where the first word begins: comments before a statement belong to nobody. */
const leading = (text: string): number => (/^(?:\s|\/\/[^\n]*(?:\n|$))*/.exec(text) as RegExpExecArray)[0].length

export const splitStatements = (source: string): readonly StatementText[] => {
  const found: StatementText[] = []
  let from = 0
  const take = (to: number): void => {
    const text = source.slice(from, to)
    const skipped = leading(text)
    if (!isBlank(text)) found.push({ text: text.slice(skipped), start: from + skipped })
    from = to
  }
  for (const token of source.matchAll(tokens)) if (token[0] === ';') take(token.index + 1)
  take(source.length)
  return found
}

/** Cedar counts octets, from the start of a statement. @returns UTF-16 units */
export const unitsOf = (text: string, octets: number): number =>
  new TextDecoder().decode(new TextEncoder().encode(text).subarray(0, octets)).length

/** From 1. */
export const lineAt = (source: string, offset: number): number => source.slice(0, offset).split('\n').length
