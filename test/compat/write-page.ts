// `node test/compat/write-page.ts FOLDER [--write]`, run by scripts/compat.mjs: tells what the results in a folder are, and writes the page.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../../scripts/bootstrap.mjs'
import { declaredChecks } from './declared.ts'
import { mergeResults, pageFile, parsePage, readResults, renderPage } from './page.ts'

const [folder, option] = process.argv.slice(2)
const ran = readResults(folder as string).filter(({ result }) => result !== 'not run')
for (const { subject, version, check, result } of ran) console.log(`${result}  ${subject} ${version}: ${check}`)
if (option === '--write') {
  const file = join(root, pageFile)
  writeFileSync(file, renderPage(mergeResults(declaredChecks(), ran, parsePage(readFileSync(file, 'utf8')))))
  console.log(`wrote ${pageFile}`)
}
