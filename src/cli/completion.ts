/** `completion`: scripts for shells, from the table of verbs. */
import { UsageError } from './usage.ts'
import { COMMON_OPTIONS, EXIT, type Verb } from './verb.ts'

const SHELLS = { bash: bashScript, zsh: zshScript } as const

/** `verbs`: all, this one among them. */
export function completionVerb(verbs: () => readonly Verb[]): Verb {
  return {
    name: 'completion',
    summary: 'print a completion script for bash or zsh',
    words: 'bash | zsh',
    count: [1, 1],
    options: {},
    calls: [],
    choices: Object.keys(SHELLS),
    examples: ['completion bash', 'completion zsh'],
    notes: [
      'bash: fleetloop completion bash > ~/.local/share/bash-completion/completions/fleetloop',
      'zsh:  fleetloop completion zsh > _fleetloop, in a directory of $fpath',
    ],
    async run({ args, terminal }) {
      const shell = Object.entries(SHELLS).find(([name]) => name === args.words[0])
      if (shell === undefined) throw new UsageError('It takes bash or zsh.')
      await terminal.print(shell[1](verbs()))
      return EXIT.ok
    },
  }
}

/** What may stand behind the verb. */
const wordsOf = ({ options, choices = [] }: Verb) => [
  ...choices,
  ...Object.keys({ ...options, ...COMMON_OPTIONS }).map((name) => `--${name}`),
]

/** Options that take a file are completed with files. */
const takesFile = ({ words }: Verb) => /FILE/.test(words)

function bashScript(verbs: readonly Verb[]): string {
  const cases = verbs.map((verb) => {
    const files = takesFile(verb) ? ' files=1' : ''
    return `    ${verb.name}) words="${wordsOf(verb).join(' ')}"${files} ;;`
  })
  return `# fleetloop completion bash
_fleetloop() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} words= files=
  case $previous in
    --token-file|--csv) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${verbs.map(({ name }) => name).join(' ')} --help --version"
  else
    case \${COMP_WORDS[1]} in
${cases.join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ -n "$files" ]; then COMPREPLY+=($(compgen -f -- "$current")); fi
}
complete -o filenames -F _fleetloop fleetloop`
}

function zshScript(verbs: readonly Verb[]): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
  const described = verbs.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`)
  const cases = verbs.map((verb) => {
    const options = Object.entries({ ...verb.options, ...COMMON_OPTIONS }).map(
      ([name, { value, help, isRepeatable }]) => {
        const text = help.replace(/[[\]:]/g, ' ')
        const argument = value === undefined ? '' : `:${value}:${value === 'FILE' ? '_files' : ' '}`
        return quoted(`${isRepeatable ? '*' : ''}--${name}[${text}]${argument}`)
      },
    )
    const rest = takesFile(verb) ? '*:file:_files' : `*: :(${(verb.choices ?? []).join(' ')})`
    return `    ${verb.name}) _arguments ${options.join(' ')} ${quoted(rest)} ;;`
  })
  return `#compdef fleetloop
# fleetloop completion zsh
_fleetloop() {
  local -a verbs
  verbs=(
${described.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
${cases.join('\n')}
  esac
}
compdef _fleetloop fleetloop`
}
