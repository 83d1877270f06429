// A command that stands in an option, as the words that it is started with. No shell: nothing that was fetched becomes part of a command.

export type CommandWords = readonly [string, ...string[]]

const word = /(?:[^\s'"]|'[^']*'|"[^"]*")+/g

/** Words as a person types them: separated by blanks, kept together by quotes. @returns null for nothing, and for a quote without its end */
export const commandWords = (text: string): CommandWords | null => {
  const [program, ...args] = [...text.matchAll(word)].map(([each]) =>
    each.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, single?: string, double?: string) => single ?? double ?? ''),
  )
  return program === undefined || program === '' || text.replaceAll(word, '').trim() !== '' ? null : [program, ...args]
}

/** One word for a shell that a person copies it into: quoted where it has to be. */
export const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
