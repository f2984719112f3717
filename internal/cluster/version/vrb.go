package version

import (
	"fmt"
	"strings"
)

const wantVRB = "V, R, B, D and SP with digits behind each, in that order, later ones may be missing, such as V500R001B01D006"

// fieldsVRB reads fields from the front; n is how many there are.
func fieldsVRB(s string) (parts []part, ok bool) {
	for _, name := range []string{"V", "R", "B", "D", "SP"} {
		if s == "" {
			break
		}
		rest, found := strings.CutPrefix(s, name)
		if !found {
			return nil, false
		}
		end := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, isNum := number(rest[:end])
		if !isNum {
			return nil, false
		}
		parts = append(parts, part{num: n})
		s = rest[end:]
	}
	return parts, s == "" && len(parts) > 0
}

func parseVRB(v *Version) string {
	parts, ok := fieldsVRB(v.text)
	if !ok || len(parts) < 2 {
		return wantVRB
	}
	v.parts = parts
	return ""
}

// Banner is what the product prints as its version, for example
// "V500R001B01D006 V5.0 E0503 Enterprise 45807."
type Banner struct {
	Platform Version // vrb
	Release  Version // cas, never a family
	Edition  string  // Enterprise; "" when it is not there
	Build    string  // 45807; "" when it is not there
}

// maxBanner is the longest text that is searched, in bytes.
const maxBanner = 64 << 10

// ParseBanner finds the first line with a banner in a text, which may be the
// whole output of an upgrade. Its fields are separated by spaces or by "-". The
// family in it (V5.0) may be missing; one that contradicts the E number is an
// error, and so is a text without a banner.
func ParseBanner(text string) (Banner, error) {
	if len(text) > maxBanner {
		return Banner{}, fmt.Errorf("find a version banner: text of %d bytes: want at most %d", len(text), maxBanner)
	}
	for line := range strings.Lines(text) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r <= ' ' || r == '-' })
		for i, f := range fields {
			if p, err := Parse(VRB, f); err == nil {
				return bannerAfter(p, fields[i+1:])
			}
		}
	}
	return Banner{}, fmt.Errorf("find a version banner in %s: want one such as V500R001B01D006 V5.0 E0503 Enterprise 45807", quote(text))
}

// bannerAfter reads what stands behind the platform's version.
func bannerAfter(platform Version, fields []string) (Banner, error) {
	b := Banner{Platform: platform}
	next := func() string {
		if len(fields) == 0 {
			return ""
		}
		f := strings.TrimSuffix(fields[0], ".")
		fields = fields[1:]
		return f
	}
	f := next()
	said := ""
	if strings.HasPrefix(f, "V") {
		said, f = f[1:], next()
	}
	var err error
	if b.Release, err = Parse(CAS, f); err != nil || b.Release.IsFamily() {
		return Banner{}, fmt.Errorf("read the banner of %s: %s in place of an E number such as E0503", platform, quote(f))
	}
	if family, ok := b.Release.Family(); said != "" && (!ok || family.text != said) {
		return Banner{}, fmt.Errorf("read the banner of %s: V%s and %s contradict each other", platform, said, b.Release)
	}
	b.Edition, b.Build = next(), next()
	return b, nil
}

// Find reads a version like Parse; for cas and vrb it also finds it in a banner.
// Spaces around it do not matter.
func Find(s Scheme, text string) (Version, error) {
	text = strings.TrimSpace(text)
	v, err := Parse(s, text)
	if err == nil || s != CAS && s != VRB || !strings.ContainsAny(text, " -\n\t") {
		return v, err
	}
	b, berr := ParseBanner(text)
	switch {
	case berr != nil:
		return Version{}, fmt.Errorf("%w; %w", err, berr)
	case s == CAS:
		return b.Release, nil
	}
	return b.Platform, nil
}
