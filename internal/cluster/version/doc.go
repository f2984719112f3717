// Package version reads versions of five schemes, orders them, and matches them
// against patterns. It is pure: no I/O, no clock.
//
//	cas     E0705, E0513H07 (hotfix 7 of E0513), and families: 2.0, 3.0, 5.0
//	vrb     V500R001B01D006, with SP02 behind it for a service pack
//	dotted  2.0.0.B086, 24.0.0.3, 24.06.SP1
//	semver  1.2.3, 1.2.3-rc.1, as semver.org says
//	debian  1:2.3~rc1-4, as dpkg compares
//
// Orders. In all but semver and debian the parts are compared one by one, and a
// part that is missing comes before every other: E0513 < E0513H01, 24.06 <
// 24.06.SP1. In dotted, a part without letters comes before one with letters,
// then letters by their bytes, then the number: 2.0.0.3 < 2.0.0.B2 < 2.0.0.B10.
//
// Families of cas. The first two digits of an E number are the family: E0503 is
// of 5.0, as the product itself prints ("V5.0 E0503"). A family stands for "one of
// them, not known which", and is ordered before all of them: E0299H99 < 3.0 <
// E0300. Only M.0 is a family; 4.1 and 4.14 are series of the kernel.
package version
