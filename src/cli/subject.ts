// `--agent NAME | --service NAME | --operator NAME`: whom a command is about.
import { type Command, Option } from 'commander'
import type { SubjectKindName } from '../schema/admin-answers.ts'
import { CliError } from './errors.ts'

const kinds = ['agent', 'service', 'operator'] as const

export type SubjectChoice = Partial<Record<SubjectKindName, string>>
export interface Subject {
  readonly kind: SubjectKindName
  readonly name: string
}

export const withSubjectFilter = (command: Command): Command => {
  for (const kind of kinds)
    command.addOption(
      new Option(`--${kind} <name>`, `of this ${kind}`).conflicts(kinds.filter(other => other !== kind)),
    )
  return command
}

export function subjectOf(options: SubjectChoice, demand: 'required'): Subject
export function subjectOf(options: SubjectChoice, demand: 'optional'): Subject | Partial<Subject>
export function subjectOf(options: SubjectChoice, demand: 'required' | 'optional'): Subject | Partial<Subject> {
  const kind = kinds.find(each => options[each] !== undefined)
  if (kind !== undefined) return { kind, name: options[kind] as string }
  if (demand === 'optional') return {}
  throw new CliError('usage', 'expected --agent NAME, --service NAME or --operator NAME')
}
