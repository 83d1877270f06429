// A step of a plan: what one document, or its absence, would change, and how to ask the server whether it may.
import { isAgentCaError } from '../base/errors.ts'
import type { RadiusAnswer } from '../schema/admin-answers.ts'
import type { Declared, DeclaredFault } from '../schema/apply.ts'
import type { AdminClient } from './admin-client.ts'
import { ServerRefusal } from './errors.ts'
import type { CommandIo } from './io.ts'

export interface PlannedChange {
  readonly member: string
  readonly from: unknown
  readonly to: unknown
}

export interface PlannedStep {
  readonly action: 'create' | 'update' | 'keep' | 'retire' | 'remove' | 'apply'
  readonly kind: 'owner' | 'agent' | 'service' | 'policy'
  readonly name: string
  readonly file: string | null
  readonly line: number | null
  readonly changes: readonly PlannedChange[]
  /** Of a retirement: what ends. */
  readonly radius: RadiusAnswer | null
}

export interface Step {
  readonly planned: PlannedStep
  /** null: nothing to do. @param expected the confirmed count of a retirement */
  readonly run: (() => Promise<unknown>) | null
}

export interface Plan {
  readonly steps: readonly Step[]
  readonly faults: readonly DeclaredFault[]
}

export interface PlanOptions {
  /** Set that everything belongs to; null: none. */
  readonly set: string | null
  readonly prune: boolean
  readonly takeOver: boolean
  readonly why: string | undefined
}

export interface Planner {
  readonly io: CommandIo
  readonly client: AdminClient
  readonly options: PlanOptions
}

/** Nothing, where the server would do it; the fault, where it would not. */
export const faultOf = async (declared: Declared, ask: () => Promise<unknown>): Promise<DeclaredFault | null> => {
  try {
    await ask()
    return null
  } catch (error) {
    if (!isAgentCaError(error)) throw error
    // That the server is away, or does not know this operator, is no fault of a file.
    if (
      !(error instanceof ServerRefusal) ||
      [401, 403, 429].includes(error.problem.status) ||
      error.problem.status >= 500
    )
      throw error
    return { file: declared.file, line: declared.line, path: '', problem: error.message }
  }
}

export interface Planned {
  readonly step: Step | null
  readonly fault: DeclaredFault | null
}
