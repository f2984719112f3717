package support

import (
	"regexp"
	"strings"
)

const (
	keyEnd = "PRIVATE KEY-----"
	// names end the names of what is a secret.
	names = `passw(?:or)?d|passphrase|secret|token|credential|密码|口令|sst_auth|[_-]pwd|(?:api|access|auth|encryption|private|secret|unlock)[_-]?key`
	// briefly are names that count where a value follows them, and not within other words.
	briefly = `\bpwd|\bcommunity|(?:\b|[_-])pass|(?-i:[a-z0-9]P(?:wd|ass))`
	// bare is a value without quotes around it. A quote within is part of it unless something new begins behind it.
	bare = `(?:[^\s"']|["'][^\s"',:;}\])>/=\\])+`
	// inQuotes is a value in quotes, up to the next one that is not escaped.
	inQuotes = `(?:[^"'\\\n]|\\[^"'\n])+`
	// inSQL is the same in SQL, where two quotes are one within the text.
	inSQL = `(?:[^"'\\\n]|\\[^"'\n]|'')+`
	// argument is one of a command, also with spaces in quotes; glued is one behind its flag.
	argument = `(?:\\*'[^'\n]+'|\\*"[^"\n]+"|` + bare + `)`
	glued    = `(?:\\*'[^\s"',:;}\])>/=\\][^'\n]*'|\\*"[^\s"',:;}\])>/=\\][^"\n]*"|` + bare + `)`
	// login is a user with the password behind a colon.
	login = `(?:\\*'[^\s:"']+:([^'\n]+)|\\*"[^\s:"']+:([^"\n]+)|[^\s:"']+:(` + glued + `))`
	// angle brackets, also as JSON writes them
	lt, gt = `(?:<|\\+u003c)`, `(?:>|\\+u003e)`
)

// restOfKey is the end of a private key.
var restOfKey = regexp.MustCompile(`^-----END [A-Z0-9 ]*` + keyEnd)

// patterns are what looks like a secret: the groups.
var patterns = []*regexp.Regexp{
	regexp.MustCompile(`(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z))`),
	regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:(` + bare + `)@`),
	regexp.MustCompile(`[^\s:"']:(` + bare + `)@(?:tcp6?|unix)\(`),
	regexp.MustCompile(`(?:^|[\s"'=(,])[A-Za-z_][\w.%-]*:([^\s"'](?:[^\n"']|["'][^\s"',:;}\])>/=\\])*?)@(?:tcp6?|unix)\(`),
	regexp.MustCompile(`(?i)` + lt + `(?:[\w-]*(?:passw(?:or)?d|passphrase|secret|token)[\w-]*|[\w-]*(?:` + briefly + `|[_-]pwd))(?:\s[^<>]*[^<>/])?` + gt +
		`\s*([^\s<](?s:.*?))(?:<|\\+u003c|\z)`),
	regexp.MustCompile(`(?i)authorization\\*["']?\s*[:=]\s*\\*["']?(?:(?:basic|bearer|digest|token)\s+)?(` + bare + `)`),
	regexp.MustCompile(`(?i)\bsecret\b[^\n]*?\bdata\\*"?\s*[:=]\s*\\*"?([A-Za-z0-9+/=]+)`),
	regexp.MustCompile(`\b(AQ[A-Za-z0-9+/]{36,38}={1,2})`),
	regexp.MustCompile(`\[client\.[^\]\n]*\][^\n]*?\bkey\s*=\s*(` + bare + `)`),
	regexp.MustCompile(`(?i)\bcookie\\*["']?\s*[:=]\s*\\*["']?([^\n"'\\]+)`),
	regexp.MustCompile(`(?i)\bsecret\s+\\*"([^"\\\n]+)`),
	regexp.MustCompile(`(\$(?:1|5|6|y|2[aby])\$[^\s:"']+)`),
	// arguments of programs
	regexp.MustCompile(`\b(?:mysql|mariadb|mariabackup|xtrabackup)[\w-]*\s(?:[^\n]*?\s)??-p(` + glued + `)`),
	regexp.MustCompile(`\bmysqladmin\s[^\n]*?\spassword\s+(` + argument + `)`),
	regexp.MustCompile(`\b(?:fence_\w+|racadm|sshpass|zsha)\s(?:[^\n]*?\s)??-p(?:\s+|=)(` + argument + `)`),
	regexp.MustCompile(`\b(?:sshpass|zsha)\s(?:[^\n]*?\s)??-p(` + glued + `)`),
	regexp.MustCompile(`\bipmitool\s(?:[^\n]*?\s)??-P\s*(` + argument + `)`),
	regexp.MustCompile(`\bms_recovery\.sh\s+[\w.:%-]*[.:][\w.:%-]*[ \t]+(` + argument + `)(?:[ \t]+(` + argument + `))?`),
	regexp.MustCompile(`\biscsiadm\s[^\n]*?password(?:_in)?\s[^\n]*?(?:-v|--value)[\s=]*(` + argument + `)`),
	regexp.MustCompile(`\brabbitmqctl\s[^\n]*?(?:add_user|change_password|authenticate_user)\s+\S+[ \t]+(` + argument + `)`),
	regexp.MustCompile(`\bsnmp\w*\s(?:[^\n]*?\s)??-A\s*(` + argument + `)`),
	regexp.MustCompile(`\bsnmp\w*\s(?:[^\n]*?\s)??-X\s*(` + argument + `)`),
	regexp.MustCompile(`\bchpasswd\s*<<<\s*` + login),
	// lists of such arguments
	regexp.MustCompile(`\b(?:ipmitool\\*["']\s*,[^\n\]]*?["']-P|(?:fence_\w+|racadm|sshpass|zsha)\\*["']\s*,[^\n\]]*?["']-p)\\*["']\s*,\s*\\*["'](` + inQuotes + `)`),
	regexp.MustCompile(`\bms_recovery\.sh\\*["']\s*,\s*\\*["'][^\s"']+["']\s*,\s*\\*["'](` + inQuotes + `)(?:["']\s*,\s*\\*["'](` + inQuotes + `))?`),
	// of other programs, and of SQL, which servers quote in what they say
	regexp.MustCompile(`\b(?:mysql|mariadb)[\w-]*\\*["']\s*,[^\n\]]*?["']-p(` + inQuotes + `)`),
	regexp.MustCompile(`\bcurl\s(?:[^\n]*?\s)??(?:-[A-Za-z]*u|--user)[\s=]*` + login),
	regexp.MustCompile(`\bcurl\s(?:[^\n]*?\s)??(?:-[A-Za-z]*U|--proxy-user)[\s=]*` + login),
	regexp.MustCompile(`\b(?:ldap\w+\s(?:[^\n]*?\s)??-w|redis-cli\s(?:[^\n]*?\s)??-a)\s+(` + argument + `)`),
	regexp.MustCompile(`\bsecret-set-value\s[^\n]*?--base64[\s=]+(` + bare + `)`),
	regexp.MustCompile(`\bsecret-set-value\s+[0-9a-fA-F-]{36}\s+([A-Za-z0-9+/]` + bare + `)`),
	regexp.MustCompile(`\becho\s+(?:-\w+\s+)?\\*["']?([^"'|\n]*[^"'|\\\s])\\*["']?\s*\|\s*(?:sudo\s+)?(?:[\w/]*/)?(?:passwd|chpasswd|htpasswd|openssl|cryptsetup)\b`),
	regexp.MustCompile(`(?i)\bidentified\s+(?:by|(?:with|via)\s+\S+\s+(?:by|as|using))\s+(?:password\s+)?\\*["'](` + inSQL + `)`),
	regexp.MustCompile(`(?i)\bpassword\s*\(\s*\\*["'](` + inSQL + `)`),
	regexp.MustCompile(`(?i)\bset\s+password\b[^\n=]*=\s*\\*["'](` + inSQL + `)`),
	regexp.MustCompile(`(?i)\bpassw(?:or)?d(?:\s+(?:of|for)\s+\S+)?\s+(?:is|was):?\s+\\*["'](` + inQuotes + `)`),
	regexp.MustCompile(`(?i)\bpassw(?:or)?d(?:\s+(?:of|for)\s+\S+)?\s+(?:is|was):?\s+([^\s"']*[0-9][^\s"']*)`),
}

// named is a name that sounds like a secret, up to its value: NAME = VALUE, NAME: VALUE, --NAME VALUE, and "--NAME", "VALUE".
var named = regexp.MustCompile(`(?i)(?:[\w.-]*(?:` + names + `)\\*["']?\s*[:=：]\s*|` +
	`--?[\w-]*(?:` + names + `)(?:\s+|\\*["']\s*,\s*)|` +
	`[\w.-]*(?:` + briefly + `)\\*["']?\s*[:=]\s*|(?:^|[\s"'])--?(?:[\w-]*[_-])?pass(?:\s+|\\*["']\s*,\s*))`)

// workingDirectory is a name like that of a secret whose value is none.
var workingDirectory = regexp.MustCompile(`^PWD\\*["']?\s*[:=]\s*\\*["']?/[\w./-]*(?:[\s"'\\,;]|$)`)

var (
	// yamlTag stands before a value in YAML; list has several, of which the first quote and the last one stay.
	yamlTag   = regexp.MustCompile(`^!!?\w+\s+`)
	list      = regexp.MustCompile(`^\[\s*\\*["']([^\]\n]*[^\]\n\\"'])\\*["']\s*\]`)
	startBare = regexp.MustCompile(`^` + bare)
	// more is where a value without quotes ends before its run of characters does: a list or an address goes on.
	more = regexp.MustCompile(`[,;&]["'{\[]*[\w.-]+\\*["']?[:=]|[,;&}\])]+$|</|/>$`)
)

// maxValue bounds a value, maxName a name, and maxIndent what stands before a name that begins its line.
const (
	maxValue  = 64 << 10
	maxName   = 128
	maxIndent = 256
)

// value is where the value of a name ends; the name begins at name, the value at from.
func value(s string, name, from int) (int, int) {
	from += len(yamlTag.FindString(s[from:min(len(s), from+maxName)]))
	if m := list.FindStringSubmatchIndex(s[from:min(len(s), from+maxValue)]); m != nil {
		return from + m[2], from + m[3]
	}
	begin := from
	for from < len(s) && s[from] == '\\' {
		from++
	}
	if from < len(s) && (s[from] == '"' || s[from] == '\'') {
		from++
		return from, reference(s, from, closing(s, from, from-1-begin))
	}
	from = begin
	to := from + len(startBare.FindString(s[from:min(len(s), from+maxValue)]))
	if ownLine(s, name, from) { // what a file of settings has there goes on to the end of the line
		to = from + len(strings.TrimRight(untilLine(s[from:]), " \t\r,"))
	} else if m := more.FindStringIndex(s[from:to]); m != nil {
		to = from + m[0]
	}
	return from, reference(s, from, unescaped(s, from, to))
}

// reference ends a value before it begins when it says only where a secret is.
func reference(s string, from, to int) int {
	if strings.HasPrefix(s[from:to], "file:/") || s[from:to] == removed {
		return from
	}
	return to
}

// closing is where a text in quotes ends that begins with a quote behind some backslashes: at one behind as many. Two single
// quotes are one within the text (YAML, SQL).
// Within it a backslash is doubled, and a quote has one more before it, as often as texts are within texts.
func closing(s string, from, backslashes int) int {
	quote, run := s[from-1], 0
	for i := from; i < min(len(s), from+maxValue); i++ {
		switch s[i] {
		case '\\':
			run++
			continue
		case quote:
			if run >= backslashes && run%(2*(backslashes+1)) == backslashes {
				again := strings.Repeat(`\`, backslashes) + "'"
				if quote != '\'' || !strings.HasPrefix(s[i+1:], again) {
					return i - backslashes
				}
				i += len(again)
			}
		}
		run = 0
	}
	return from + len(untilLine(s[from:]))
}

func untilLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// ownLine says whether a name begins its line, and its value is that of a file of settings.
func ownLine(s string, name, from int) bool {
	before := s[max(0, name-maxIndent):name]
	before = before[strings.LastIndexByte(before, '\n')+1:]
	assigned := strings.TrimRight(s[name:from], " ")
	return strings.Trim(before, " \t-") == "" && len(assigned) < from-name && !strings.Contains(assigned, "\n") &&
		(strings.HasSuffix(assigned, ":") || strings.HasSuffix(assigned, " ="))
}

// unescaped leaves the backslashes before a quote that ends a value to that quote.
func unescaped(s string, from, to int) int {
	if to < len(s) && (s[to] == '"' || s[to] == '\'') {
		for to > from && s[to-1] == '\\' {
			to--
		}
	}
	return to
}
