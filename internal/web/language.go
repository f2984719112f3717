package web

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/text/language"

	"holdfast/internal/api/told"
	"holdfast/internal/lib/lang"
)

// catalogues are the languages of the pages.
var catalogues = map[string]func() *lang.Catalogue{
	"en": func() *lang.Catalogue { return nil },
	"zh": sync.OnceValue(func() *lang.Catalogue {
		c, err := lang.For("zh")
		if err != nil {
			panic(err) // it is embedded
		}
		return c
	}),
}

// languages are those of the pages; the first one is for who asks for another.
var languages = language.NewMatcher([]language.Tag{language.English, language.SimplifiedChinese})

const languageCookie = "holdfast-language"

// languageOf is the language of the switch, else that of the browser.
func languageOf(r *http.Request) string {
	if k, err := r.Cookie(languageCookie); err == nil && catalogues[k.Value] != nil {
		return k.Value
	}
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return "en"
	}
	if _, i, _ := languages.Match(tags...); i == 1 {
		return "zh"
	}
	return "en"
}

// language changes the language of a browser.
func (c *Console) language(w http.ResponseWriter, r *http.Request) {
	to := r.FormValue("language")
	if catalogues[to] == nil {
		http.Error(w, "language: want en or zh", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: to, Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600})
	http.Redirect(w, r, local(r.FormValue("back")), http.StatusSeeOther)
}

func htmlLang(v *view) string {
	if v.Lang == "zh" {
		return "zh-CN"
	}
	return v.Lang
}

// colon is what stands between a name and what is said of it.
func colon(v *view) string {
	if v.Lang == "zh" {
		return "："
	}
	return ": "
}

// stop ends a sentence.
func stop(v *view) string {
	if v.Lang == "zh" {
		return "。"
	}
	return "."
}

// units of durations, as told.Ago writes them, in Chinese.
var units = map[byte]string{'s': " 秒", 'm': " 分", 'h': " 小时", 'd': " 天"}

// span writes a duration in a number and a unit.
func span(v *view, d time.Duration) string {
	text := told.Ago(max(0, d))
	if u, known := units[text[len(text)-1]]; known && v.Lang == "zh" {
		return text[:len(text)-1] + u
	}
	return text
}

// age says how long ago a time was by this host's clock, "" where it is not known.
func age(v *view, at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return v.T(span(v, now.Sub(at)) + " ago")
}
