// Imports the agent's public entry and prints what that loaded, as JSON: files by their URL, built-in modules, shared objects.
import { registerHooks } from 'node:module'

const loaded = new Set<string>()
registerHooks({
  load: (url, context, next) => {
    loaded.add(url)
    return next(url, context)
  },
})
const entry = new URL('../../src/agent/index.ts', import.meta.url).href
const exported = Object.keys(await import(entry)).sort()
const report = process.report.getReport() as unknown as { readonly sharedObjects: readonly string[] }
const { moduleLoadList } = process as unknown as { readonly moduleLoadList: readonly string[] }
process.stdout.write(
  JSON.stringify({ exported, urls: [...loaded], builtIns: moduleLoadList, sharedObjects: report.sharedObjects }),
)
