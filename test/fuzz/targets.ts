// Every parser that reads what somebody else wrote.
import { derTargets } from './der-targets.ts'
import { fileTargets } from './file-targets.ts'
import type { FuzzTarget } from './target.ts'
import { textTargets } from './text-targets.ts'
import { wireTargets } from './wire-targets.ts'

export const targets: readonly FuzzTarget[] = [...derTargets, ...textTargets, ...wireTargets, ...fileTargets]
