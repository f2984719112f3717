package support

import (
	"regexp"
	"slices"
	"strings"
)

const (
	keyEnd = "PRIVATE KEY-----"
	// names are in the names of what is a secret, in any place.
	names = `passw(?:or)?d|passphrase|passcode|secret|token|credential|authorization|cookie|密码|口令|密钥|` +
		`(?:api|access|auth|encryption|private|secret|unlock|fernet|shared|master|session|signing|chap|hmac|luks)[_-]?key`
	// briefly end such names, and mean nothing within other words.
	briefly = `pass|pwd|pw|psk|creds?|[_-]auth|\bcommunity`
	// part is what follows a secret's word within a name; place is one in a list.
	part  = `(?:[_.-]\w[\w.-]*|(?-i:[A-Z])\w*|[0-9]+)?`
	place = `(?:\[[^\]\s]*\])?`
	// name is the whole name of what is a secret, and longName one that is no other word.
	longName = `[\w.-]*(?:` + names + `)s?` + part + place
	name     = `(?:` + longName + `|[\w.-]*(?:` + briefly + `)s?[0-9]*` + place + `)`
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
	// sql is what stands before a secret's quote in SQL.
	sql = `(?:password\s*\(?\s*)?\\*["']`
	// password is the word in a sentence.
	password = `\bpass(?:word|wd|phrase)s?\b`
	whose    = `(?:\s+(?:of|for)\s+\S+)?`
)

// restOfKey is the end of a private key.
var restOfKey = regexp.MustCompile(`^-----END [A-Z0-9 ]*` + keyEnd)

// pattern is what looks like a secret: its groups. It is only in lines that have one of the words, in small letters; without
// words it may be in any text, over several lines.
type pattern struct {
	*regexp.Regexp
	words []string
}

// sounds are the words of lines with a name of a secret in them.
var sounds = []string{"pass", "pw", "psk", "secret", "token", "cred", "_auth", "-auth", "authorization", "cookie",
	"key", "community", "密", "口令"}

// linesWith calls f with where each line begins and ends that has one of the words. The text is given in small letters.
func linesWith(lower string, words []string, f func(from, to int)) {
	next := make([]int, len(words))
	find := func(i, from int) {
		next[i] = len(lower)
		if at := strings.Index(lower[from:], words[i]); at >= 0 {
			next[i] = from + at
		}
	}
	for i := range words {
		find(i, 0)
	}
	for {
		at := slices.Min(next)
		if at == len(lower) {
			return
		}
		to := at + len(untilLine(lower[at:]))
		f(strings.LastIndexByte(lower[:at], '\n')+1, to)
		for i := range words {
			if next[i] < to {
				find(i, to)
			}
		}
	}
}

// small is a text with small letters at the same places.
func small(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// patterns are all of them.
var patterns = allPatterns()

func allPatterns() (out []pattern) {
	add := func(expression string, words ...string) {
		out = append(out, pattern{regexp.MustCompile(expression), words})
	}
	out = append(out, pattern{regexp.MustCompile(`(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z))`), nil})
	add(`(?i)` + lt + `(?:\w+:)?` + name + `(?:\s[^<>]*[^<>/])?` + gt + `\s*([^\s<](?s:.*?))(?:<|\\+u003c|\z)`)
	for _, table := range [][]looks{tokens, phrases, addresses} {
		for _, l := range table {
			add(l.like, strings.Split(l.words, "|")...)
		}
	}
	for _, p := range programs {
		add(`\b(?:`+p.names+`)(?:[^\n]*?(?:[\s"',]|\\x20))??`+p.flags+string(p.how), heads(p.names)...)
	}
	return out
}

// heads are the beginnings of names, up to what is no letter.
func heads(names string) (out []string) {
	for n := range strings.SplitSeq(names, "|") {
		out = append(out, startLetters.FindString(n))
	}
	return out
}

var startLetters = regexp.MustCompile(`^[a-z_0-9]+`)

// looks are a row of a table: the words of a line, in small letters, and what the secret looks like. Between words is a |.
type looks struct{ words, like string }

// tokens are hashes of passwords, and keys that say themselves what they are.
var tokens = []looks{
	{`$`, `(\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|md5|sha1|P|H|scrypt|argon2\w*|pbkdf2[\w-]*)\$[^\s:"']+)`}, // crypt(3) and others
	{`$`, `\b((?:pbkdf2_\w+|bcrypt_sha256|scrypt|argon2\w*)\$[^\s:"']+)`},
	{`}`, `\{(?i:S?SHA[0-9]*|S?MD5|CRYPT|PBKDF2[\w-]*|ARGON2\w*|CLEARTEXT)\}([^\s"',]+)`}, // LDAP
	{`*`, `(\*[0-9A-F]{40})\b`},                 // MySQL
	{`aq`, `\b(AQ[A-Za-z0-9+/]{36,38}={1,2})`},  // Ceph
	{`gaaaaa`, `\b(gAAAAA[A-Za-z0-9_=-]{20,})`}, // Keystone
	{`ghp_|gho_|ghu_|ghs_|ghr_|github_pat_|glpat-|npm_|dckr_pat_|xox`,
		`\b((?:gh[opusr]|github_pat|glpat|npm|dckr_pat|xox[a-z])[_-][\w-]{4}[^\s"'<]*)`}, // of hosts of code, and of chats
	{`akia|asia`, `\b((?:AKIA|ASIA)[A-Z0-9]{16})\b`},                                     // AWS
	{`hvs.|hvb.`, `\b(hv[sb]\.[\w-]{8,})`},                                               // Vault
	{`eyj`, `\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[^\s"'<]*)`},                       // JWT
	{`[client.`, `\[client\.[^\]\n]*\][^\n]*?\bkey\s*=\s*(` + bare + `)`},                // Ceph
	{`secret`, `(?i)\bsecret\b[^\n]*?\bdata\\*"?\s*[:=]\s*\\*"?([A-Za-z0-9+/=]+)`},       // QEMU
	{`secret`, `(?i)` + lt + `secret\s[^<>\n]*?\bvalue\s*=\s*\\*["'](` + inQuotes + `)`}, // libvirt
	{`secret-set-value`, `\bsecret-set-value\s[^\n]*?--base64[\s=]+(` + bare + `)`},
	{`secret-set-value`, `\bsecret-set-value\s+[0-9a-fA-F-]{36}\s+([A-Za-z0-9+/]` + bare + `)`},
}

// phrases are what servers, files of settings and people write.
var phrases = []looks{
	// SQL, which servers quote in what they say
	{`identified`, `(?i)\bidentified\s+(?:by|(?:with|via)\s+[^\n"']*?\b(?:by|as|using))\s+` + sql + `(` + inSQL + `)`},
	{`identified`, `(?i)\bor\s+\w+\s+(?:by|as|using)\s+` + sql + `(` + inSQL + `)`},
	{`password`, `(?i)\bpassword\s*\(\s*\\*["'](` + inSQL + `)`},
	{`password`, `(?i)\bset\s+password\b[^\n=]*=\s*\\*["'](` + inSQL + `)`},
	// sentences
	{`pass`, `(?i)` + password + whose + `\s+(?:is|was):?\s+\\*["'](` + inQuotes + `)`},
	{`pass`, `(?i)` + password + whose + `\s+(?:is|was):\s+(\S[^\n"']*)`},
	{`pass`, `(?i)` + password + whose + `\s+(?:is|was)\s+([^\s"']*[^\s"'a-z.,;:!)][^\s"']*)`},
	{`pass`, `(?i)` + password + `[^\n:"']*\s(?:of|for)\s+(?:(?:the|user|account|host|node)\s+)*\S+:\s+(\S[^\n]*)`},
	{`pass`, `(?i)` + password + `[^\n:"']*\s(?:set|changed|reset)\s+to\s+(\S[^\n]*)`},
	{`login`, `(?i)\blogin\s+\S+\s+password\s+(\S[^\n]*)`},
	// settings of two words in a line, and what has a secret behind it wherever it stands
	{strings.Join(sounds, "|"), `(?i)^[ \t]*` + name + `[ \t]+([^\s:=]\S*)[ \t\r]*$`},
	{strings.Join(sounds, "|"), `(?i)\b[\w.-]*[_-](?:` + names + `|pass|pw|psk)[ \t]+((?-i:[^\s"':=|]*[^\s"'a-z.,;:=|)][^\s"']*))`},
	{`user=`, `\b[A-Z_]*USER=` + login},
	{`pass|masterauth|bindpw|rootpw`, `\b(?:requirepass|masterauth|auth_pass|bindpw|rootpw|tls-key-file-pass)[ \t]+(\S[^\n]*)`},
	{`community|com2sec|createuser`, `\b(?:r[ow]community6?|com2sec6?|trapcommunity|createUser|snmp-server\s+community)[ \t]+(\S[^\n]*)`},
	{`secret`, `(?i)\bsecret\s+\\*"([^"\\\n]+)`},
	// QEMU's monitor
	{`password`, `\b(?:set_password\s+\w+|change\s+\w+\s+password)[ \t]+(\S[^\n]*)`},
	// what a program is told on its standard input
	{`echo|printf`, `\b(?:echo|printf)\s+([^|\n]*[^|\\\s])\s*\|\s*(?:sudo\s+(?:-\w+\s+)*)?(?:[\w/]*/)?` +
		`(?:(?:ch|ht|smb|vnc)?passwd|openssl|cryptsetup|su|kinit|gpg|(?:docker|podman)\s+login)\b`},
	{`echo|printf`, `\b(?:echo|printf)\s+([^|\n]*[^|\\\s])\s*\|\s*sudo\s[^\n]*?-\w*S\b`},
	{`<<<`, `\b(?:(?:ch|ht|smb|vnc)?passwd|cryptsetup|kinit|sudo\s[^\n]*?-\w*S)\b[^\n]*?<<<\s*(\S[^\n]*)`},
}

// addresses have a password before the @. With a protocol behind it, or a path, a password may have spaces.
var addresses = []looks{
	{`@`, `[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:(` + bare + `)@`},
	{`@`, `\bhttps?://([^\s/@"']+)@`},
	{`@`, `[^\s:"']:(` + bare + `)@(?:tcp6?\(|unix\(|/)`},
	{`@`, `(?:^|[\s"'=(,])[A-Za-z_][\w.%-]*:([^\s"'](?:[^\n"']|["'][^\s"',:;}\])>/=\\])*?)@(?:tcp6?\(|unix\(|/)`},
	{`@`, `(?:^|[\s"'=(,])[A-Za-z_][\w.%-]*:([^\s"'/](?:` + bare + `)?)@[\w.-]`},
	{`@`, `(?:^|[\s"'=(,])[A-Za-z_][\w.$#-]*/([^\s/"'@][^\s"'@]*)@[\w.-]+:[0-9]`},
	{`@`, `(?:^|[\s"'=(,])[A-Za-z_][\w.$#-]*/([^\s/"'@][^\s"'@]*)@//`},
}

// how is what follows a flag that has a secret.
type how string

const (
	next        = `(?:[ \t]+|=|\\x20|(?:\\*["'])?\s*,\s*)`
	word        = how(next + `(` + argument + `)`)                // an argument of its own
	joined      = how(`(` + glued + `)`)                          // the rest of the flag
	either      = how(next + `?(` + argument + `)`)               // one of both
	userColon   = how(next + `?` + login)                         // user:password, in any way
	userPercent = how(next + `?\\*["']?[^\s%"']+%(` + bare + `)`) // user%password
	userSlash   = how(`[^\s/"'=]+/(` + bare + `)@`)               // user/password@where, without a flag
	rest        = how(next + `(\S[^\n]*)`)                        // all up to the end of the line
)

// programs are those that take secrets as arguments, in a line or in a list.
var programs = []struct {
	names, flags string
	how          how
}{
	{`mysql[\w-]*|mariadb[\w-]*|mariabackup|xtrabackup`, `-p`, joined},
	{`mysqladmin`, `password`, word},
	{`fence_\w+|racadm|sshpass|zsha|ipmi\w+-\w+|ipmipower|mongo\w*|cqlsh|influx|rabbitmqadmin`, `-p`, word},
	{`sshpass|zsha|mongo\w*|7z\w?`, `-p`, joined},
	{`docker|podman|nerdctl|skopeo|helm`, `login\b[^\n]*?[\s"',]-p`, either},
	{`ipmitool|sqlcmd|bcp|zip|unzip|mosquitto_\w+|ssh-keygen`, `-P`, either},
	{`ssh-keygen`, `-N`, either},
	{`ms_recovery\.sh`, `[\w.%-]*[.:][\w.:%-]*`, how(next + `(` + argument + `)(?:` + next + `(` + argument + `))?`)},
	{`iscsiadm`, `[^\n]*?password(?:_in)?\\*["']?[\s,][^\n]*?(?:-v|--value)`, word},
	{`rabbitmqctl`, `(?:add_user|change_password|authenticate_user)[ \t]+\S+`, word},
	{`snmp\w*`, `-A`, either},
	{`snmp\w*`, `-X`, either},
	{`snmp\w*`, `-c`, either},
	{`curl`, `(?:-[A-Za-z]*u|--user)`, userColon},
	{`curl`, `(?:-[A-Za-z]*U|--proxy-user)`, userColon},
	{`etcdctl`, `--user`, userColon},
	{`ldap\w+|ipa-\w+|kadmin`, `-w`, either},
	{`ldap\w+`, `-s`, either},
	{`redis-cli|valkey-cli`, `-a`, either},
	{`gsql|ksql|vsql`, `-[Ww]`, either},
	{`ctsql|sqlplus|rman|expdp|impdp|disql|sqlldr`, ``, userSlash},
	{`htpasswd`, `-\w*b\w*`, rest},
	{`useradd|usermod|groupadd|groupmod`, `-\w*p`, either},
	{`openssl`, `-[kK]`, word},
	{`smbclient|rpcclient|smb\w+`, `(?:-U|--user)`, userPercent},
	{`plink|pscp|psftp`, `-pw`, word},
	{`lftp`, `-u`, how(next + `?\\*["']?[^\s,"']+,(` + bare + `)`)},
	{`nmcli`, `(?:[\w.-]+\.psk|psk|password)`, word},
}

// named is a name that sounds like a secret, up to its value: NAME = VALUE, NAME: VALUE, NAME => VALUE, NAME "VALUE", a flag
// of that name, and a pair of the name and the value.
var named = regexp.MustCompile(`(?i)(?:` +
	name + `\\*["']?\]?[ \t]*(?::=|==?>?|\\+u003d|%3[ad]|[:：＝]|是|为)[ \t]*|` +
	`(?:^|[\s"'=(\[])--?(?:[\w-]*(?:` + names + `)[\w-]*|(?:[\w-]*[_-])?(?:` + briefly + `))(?:\s+|\\*["']\s*,\s*)|` +
	longName + `(?:\\*["'][ \t]|[ \t]|\()[ \t(]*\\*["']|` +
	`(?:` + longName + `|admin_?pass)[ \t]+\|[ \t]+|` +
	`["']` + name + `\\*["']\s*,\s*\\*["'](?:value|val)\\*["']\s*[:=]\s*|` +
	`["']` + name + `\\*["']\s+value\s*=\s*|` +
	`[\[(]\s*b?\\*["']` + name + `\\*["']\s*,\s*b?)`)

var (
	// aFlag is a name with an argument of a command.
	aFlag = regexp.MustCompile(`^[\s"'=(\[]?--?[\w-]+(?:\s+|\\*["']\s*,\s*)$`)
	// harmless are names with a secret's word that have none: where it is, what it is like, and words that only end so.
	harmless = regexp.MustCompile(`(?i)(?:[_.-]|\b|[a-z])(?:file|path|dir|uuid|type|name|ur[li]|ref|expir(?:y|es|ed|ation)|valid(?:ity|ation|to|from|until|ator)|lifetime|` +
		`time|timeout|age|length|size|count|min|max|polic(?:y|ies)|check(?:er|ed)?|enabled|required|changed|prompt|command|` +
		`algorithm|method|format|plugin|provider|manager|interval|digits|bits|status|state|service|socket|target|timer|` +
		`plymouth|console|wall|auth|authentication)s?\\*["']?\]?[ \t]*\W*$|` +
		`\.(?:go|py|sh|rb|[ch]|cc|so|js|conf|cnf|ini|json|ya?ml|xml|txt|log|pem|crt|key|cgi|d|ko)\W*$|` +
		`(?:by|com|tres|sur|over|under|im|encom|ask)pass\W*$`)
	// secretAuth is what harmless does not mean.
	secretAuth = regexp.MustCompile(`(?i)(?:sst|cli|http|redis|basic|^|["'\s])[_-]?auth\W*$`)
	// noSecret is a value that only answers a question.
	noSecret = regexp.MustCompile(`(?i)^(?:true|false|null|none|nil|<nil>|yes|no|on|off|\*+)(?:[\]},;.]*$|\))`)
)

// workingDirectory is a name like that of a secret whose value is none.
var workingDirectory = regexp.MustCompile(`^(?:OLD)?PWD\\*["']?\s*[:=]\s*\\*["']?/[\w./-]*(?:[\s"'\\,;]|$)`)

func isHarmless(name string) bool { return harmless.MatchString(name) && !secretAuth.MatchString(name) }
