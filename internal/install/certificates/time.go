package certificates

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/lib/pki"
)

// soon is how long before the end of a certificate people hear of it, at most.
const soon = 30 * 24 * time.Hour

// DueAt is when a certificate is to be renewed: when a third of its life is left, or up
// to a twelfth of it earlier. That part is made of its serial number, so that the hosts
// of a cluster do not come all at once, and each comes at the same time however often
// its agent is started.
func DueAt(c *x509.Certificate) time.Time {
	life := pki.Life(c)
	sum := sha256.Sum256(c.SerialNumber.Bytes())
	part := time.Duration(binary.BigEndian.Uint16(sum[:]))
	return c.NotAfter.Add(-life/3 - life/12/(1<<16)*part)
}

// State is that of a certificate. It ends soon when less than 30 days are left, of short
// ones less than a quarter of their life: by then it should have been renewed.
func State(c *x509.Certificate, now time.Time) string {
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return inventory.CertExpired
	case left < min(soon, pki.Life(c)/4):
		return inventory.CertSoon
	case !now.Before(DueAt(c)):
		return inventory.CertDue
	}
	return inventory.CertValid
}

// Warning says of certificates what people should know, those first that have ended; ""
// for nothing.
func Warning(all []inventory.Certificate) string {
	text := ""
	for _, state := range []string{inventory.CertExpired, inventory.CertSoon} {
		for _, c := range all {
			if c.State != state {
				continue
			}
			say := "the certificate %q ends on %s"
			if state == inventory.CertExpired {
				say = "the certificate %q ended on %s"
			}
			if text != "" {
				text += "; "
			}
			text += fmt.Sprintf(say, c.Which, c.Ends.UTC().Format("2006-01-02 15:04 MST"))
			if c.Problem != "" {
				text += ": " + c.Problem
			}
		}
	}
	return text
}

func told(which string, c *x509.Certificate, now time.Time) inventory.Certificate {
	return inventory.Certificate{Which: which, Serial: fmt.Sprintf("%x", c.SerialNumber), Ends: c.NotAfter.UTC(), State: State(c, now)}
}
