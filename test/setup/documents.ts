// The fenced blocks of README.md and docs/: what a reader copies, and what tests run.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../scripts/bootstrap.mjs'

export interface Block {
  /** From the checkout's root. */
  readonly file: string
  /** Where its text begins. */
  readonly line: number
  readonly language: string
  readonly text: string
}

export const documents: readonly string[] = [
  'README.md',
  'SECURITY.md',
  ...readdirSync(join(root, 'docs'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`)
    .toSorted(),
]

/** Their blocks are run by test/story and test/compat. */
export const integrations: readonly string[] = readdirSync(join(root, 'docs/integrations'))
  .filter(name => name.endsWith('.md'))
  .map(name => `docs/integrations/${name}`)
  .toSorted()

export const textOf = (file: string): string => readFileSync(join(root, file), 'utf8')

export const blocksOf = (file: string): readonly Block[] => {
  const text = textOf(file)
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(match => ({
    file,
    line: text.slice(0, match.index).split('\n').length + 1,
    language: match[1] as string,
    text: match[2] as string,
  }))
}

/** The one block of this language that holds these words. @throws where there is none, or more than one */
export const blockWith = (file: string, language: string, words: string): Block => {
  const found = blocksOf(file).filter(block => block.language === language && block.text.includes(words))
  if (found.length !== 1) throw new Error(`${file}: expected one ${language} block with ${words}, got ${found.length}`)
  return found[0] as Block
}
