package layout

import (
	"net/http"
	"sync"

	"golang.org/x/text/language"

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

// SetLanguage changes the language of a browser, and goes back to where that was asked for.
func SetLanguage(w http.ResponseWriter, r *http.Request) {
	to := r.FormValue("language")
	if catalogues[to] == nil {
		http.Error(w, "language: want en or zh", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: to, Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600})
	http.Redirect(w, r, Local(r.FormValue("back")), http.StatusSeeOther)
}

// Known reports whether there are pages in a language.
func Known(language string) bool { return catalogues[language] != nil }

// HTML is the language as a page names it.
func (v *View) HTML() string {
	if v.Lang == "zh" {
		return "zh-CN"
	}
	return v.Lang
}
