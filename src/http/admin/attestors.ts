// Attestors: what is configured, and what would come of a token.
import type { AttestorAnswer } from '../../schema/attestor-api.ts'
import { time, wholeList } from './answers.ts'
import type { AdminDeps } from './deps.ts'
import type { Handlers } from './handler.ts'

export const attestorHandlers = (deps: AdminDeps): Pick<Handlers, 'attestorsList' | 'attestorsTest'> => ({
  attestorsList: () =>
    wholeList(
      deps.attestors
        .list()
        .map((row): AttestorAnswer => ({ ...row, updatedAt: row.updatedAt === null ? null : time(row.updatedAt) })),
    ),
  attestorsTest: async ({ body: { jwt } }) => {
    const told = await deps.attestors.explain(jwt)
    return { ...told, expiresAt: told.expiresAt === null ? null : time(told.expiresAt) }
  },
})
