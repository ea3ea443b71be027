package preview

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

func tableOf(t testing.TB, content, mimeType string) Table {
	t.Helper()
	table, err := ReadTable(strings.NewReader(content), int64(len(content)), mimeType)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestATableIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content string
		want          [][]string // the columns are first
	}{
		{"commas", "a,b\n1,2\n", [][]string{{"a", "b"}, {"1", "2"}}},
		{"semicolons, with commas in numbers", "a;b;c\n1,5;2,5;3\n", [][]string{{"a", "b", "c"}, {"1,5", "2,5", "3"}}},
		{"tabs", "a\tb\n1\t2\n", [][]string{{"a", "b"}, {"1", "2"}}},
		{"bars", "a|b\n1|2", [][]string{{"a", "b"}, {"1", "2"}}},
		{"commas in quotes", "\"a,b,c\";d\n1;2\n", [][]string{{"a,b,c", "d"}, {"1", "2"}}},
		{"one column", "a\n1\n", [][]string{{"a"}, {"1"}}},
		{"CR LF and quotes", "a,b\r\n\"x\r\ny\",\"he said \"\"no\"\"\"\r\n", [][]string{{"a", "b"}, {"x\ny", `he said "no"`}}},
		{"stray quotes", "a,b\n5\" disk,it\"s\n", [][]string{{"a", "b"}, {`5" disk`, `it"s`}}},
		{"rows of any length", "a,b\n1\n1,2,3\n", [][]string{{"a", "b"}, {"1"}, {"1", "2", "3"}}},
		{"UTF-8 with its mark", "\ufeffa,b\nä,😀\n", [][]string{{"a", "b"}, {"ä", "😀"}}},
		{"UTF-16", "\xff\xfea\x00,\x00\xe4\x00\n\x00", [][]string{{"a", "ä"}}},
		{"UTF-16 with an odd byte", "\xff\xfea\x00,\x00\xe4\x00\n\x00x", [][]string{{"a", "ä"}, {"\uFFFD"}}},
		{"Windows-1252", "a,b\n\xe4,\x80\n", [][]string{{"a", "b"}, {"ä", "€"}}},
		{"Windows-1252 at its end", "a\n\xe4", [][]string{{"a"}, {"ä"}}},
		{"CR alone", "a;b\r1,5;2\r", [][]string{{"a", "b"}, {"1,5", "2"}}},
		{"CR alone, and LF in a cell", "a\tb\r\"x\ny\"\t2\r3\t4\r", [][]string{{"a", "b"}, {"x\ny", "2"}, {"3", "4"}}},
		{"UTF-16 big-endian without its mark", "\x00a\x00;\x00b\x00\n\x00\xe4\x00;\x002\x00\n", [][]string{{"a", "b"}, {"ä", "2"}}},
		{"a line for Excel", "sep=;\r\na;b\r\n1;2\r\n", [][]string{{"a", "b"}, {"1", "2"}}},
		{"a line for Excel, a tab", "\ufeffSEP=\t\na,x\tb\n", [][]string{{"a,x", "b"}}},
		{"a line for Excel, in quotes", "\"sep=,\"\na;b,c\n", [][]string{{"a;b", "c"}}},
		{"a title", "Report, 2026\n\nid|name|sum\n1|A|2,50\n2|B|3,50\n", [][]string{{"Report, 2026"}, {"id", "name", "sum"}, {"1", "A", "2,50"}, {"2", "B", "3,50"}}},
		{"numbers with decimal commas alone", "1,5;2,5\n3,5;4,5\n", [][]string{{"1,5", "2,5"}, {"3,5", "4,5"}}},
		{"numbers between commas", "1,2,3\n4,5,6\n", [][]string{{"1", "2", "3"}, {"4", "5", "6"}}},
		{"inches", "a,b\n\"5 inch,x\n7\" inch,y\n", [][]string{{"a", "b"}, {"\"5 inch", "x"}, {"7\" inch", "y"}}},
		{"Hive", "1\x01a,b\n2\x01c,d\n", [][]string{{"1", "a,b"}, {"2", "c,d"}}},
		{"FileMaker, Mac Roman", "\"M\x9fller\",\"a\vb\"\r\"J\x8ager\",\"c\"\r\"K\x9anig\",\"d\"\r", [][]string{{"Müller", "a\nb"}, {"Jäger", "c"}, {"König", "d"}}},
		{"columns filled with NULs", "a;b\nx\x00\x00;y\x00\n", [][]string{{"a", "b"}, {"x", "y"}}},
		{"a header alone", "a,b", [][]string{{"a", "b"}}},
		{"nothing but ends of lines", "\n\n", [][]string{{}}},
	} {
		table := tableOf(t, c.content, "text/csv")
		if got := append([][]string{table.Columns}, table.Rows...); !reflect.DeepEqual(got, c.want) || table.Total != len(c.want)-1 || table.Truncated {
			t.Errorf("%s: %+v", c.name, table)
		}
	}
	if table := tableOf(t, "a,b\tc\n", "text/tab-separated-values"); !reflect.DeepEqual(table.Columns, []string{"a,b", "c"}) {
		t.Errorf("tabs by the type: %+v", table)
	}
}

func TestATableIsShownInPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content       string
		columns, rows, most int // most is in bytes, of the last cell
		total               int
	}{
		{"as many rows as are shown", "a\n" + strings.Repeat("1\n", 1000), 1, 1000, 1, 1000},
		{"one more", "a\n" + strings.Repeat("1\n", 1001), 1, 1000, 1, 1001},
		{"many columns", strings.Repeat("a,", 300) + "\n1\n", 256, 1, 1, 1},
		{"a long cell", "a\n" + strings.Repeat("ä", 2000) + "\n", 1, 1, 1003, 1},
		{"a rune across the first MB", "a,b\n1,2\n" + strings.Repeat("€", 1<<20), 2, 1, 1, -1},
		{"a line of 20 MB", strings.Repeat("a", 20<<20), 1, 0, 1003, -1},
		{"cells in 20 MB of commas", strings.Repeat(",", 20<<20), 256, 0, 1, -1},
		{"a quote that never ends", "a,b\n\"" + strings.Repeat("x,y\n", 1<<20), 2, 1000, 2, -1},
		{"many cells", strings.Repeat(strings.Repeat("a,", 199)+"a\n", 300), 200, 99, 1, 299},
		{"stray quotes without end", strings.Repeat(",\"a", 1<<20), 256, 0, 3, -1},
		{"2 MB of rows", "a,b\n" + strings.Repeat("1234567890,"+strings.Repeat("x", 10_000)+"\n", 200), 2, 104, 1003, -1},
		{"2 MB of many rows", "a\n" + strings.Repeat("12345\n", 400_000), 1, 1000, 5, -1},
	} {
		table := tableOf(t, c.content, "text/csv")
		if len(table.Columns) != c.columns || len(table.Rows) != c.rows || table.Total != c.total {
			t.Errorf("%s: %d columns, %d rows of %d", c.name, len(table.Columns), len(table.Rows), table.Total)
		}
		if whole := c.rows == c.total && c.columns < 256 && c.most < 1000; table.Truncated == whole {
			t.Errorf("%s: truncated is %v", c.name, table.Truncated)
		}
		for _, row := range append(table.Rows, table.Columns) {
			for _, cell := range row {
				if len(cell) > 1003 || !utf8.ValidString(cell) {
					t.Fatalf("%s: a cell has %d bytes", c.name, len(cell))
				}
			}
		}
	}
}

func TestATableThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := ReadTable(failing{}, 10, "text/csv"); !errors.Is(err, errDisk) {
		t.Errorf("with a disk that fails: %v", err)
	}
}

// For any bytes, there is a table that can be displayed.
func FuzzReadTable(f *testing.F) {
	for _, seed := range []string{"a,b\n1,2\n", "\"a\n", "\xff\xfea\x00", "\xfe\xff\x00", "\ufeff", "a;b\n\xe4;\"\"\"\n", "\"\",\r\r\n\x00", "é", "\x9c"} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, tabs bool) {
		mimeType := "text/csv"
		if tabs {
			mimeType = "text/tab-separated-values"
		}
		table, err := ReadTable(bytes.NewReader(content), int64(len(content)), mimeType)
		if err != nil {
			t.Fatal(err)
		}
		if table.Total != -1 && table.Total < len(table.Rows) || len(table.Rows) > maxRows || len(slices.Concat(table.Rows...)) > maxCells || table.Columns == nil || table.Rows == nil {
			t.Fatalf("%d columns, %d rows of %d", len(table.Columns), len(table.Rows), table.Total)
		}
		for _, row := range append(table.Rows, table.Columns) {
			for _, cell := range row {
				if !utf8.ValidString(cell) || len(cell) > maxCell+len("…") {
					t.Fatalf("a cell is %q", cell)
				}
			}
		}
		if _, err := json.Marshal(table); err != nil {
			t.Fatal(err)
		}
	})
}

// The encoding is detected by the letters of a text; where they leave doubt, it is
// Windows-1252.
func TestATableIsInTheEncodingOfItsLanguage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		in         encoding.Encoding
	}{
		{"Shift-JIS", "番号,品名,価格\n1,商品,100\n2,りんご,200\n", japanese.ShiftJIS},
		{"EUC-JP", "番号,品名\n1,これはりんごです\n2,みかん\n", japanese.EUCJP},
		{"EUC-KR", "번호,이름,주소\n1,김철수,서울특별시 강남구\n2,박영희,부산광역시 해운대구\n", korean.EUCKR},
		{"GBK", "编号,名称,价格\n1,中国移动通信,100\n2,有限公司,200\n", simplifiedchinese.GBK},
		{"Big5", "編號,名稱,價格\n1,中華電信股份,100\n2,有限公司,200\n", traditionalchinese.Big5},
		{"Windows-1251", "номер,название\n1,Московский завод\n2,Северный ветер\n", charmap.Windows1251},
		{"KOI8-R", "номер,название\n1,Московский завод\n2,Северный ветер\n", charmap.KOI8R},
		{"code page 866", "номер,название\n1,Московский завод\n2,Северный ветер\n", charmap.CodePage866},
		{"Russian in sentences", "a,b\nМосковский завод сообщает о новых ценах.,С уважением\n", charmap.Windows1251},
		{"Bulgarian", "номер,име,град\n1,Иван Георгиев,София\n2,Мария Стоянова,Пловдив\n", charmap.Windows1251},
		{"Hebrew in sentences", "a,b\nהחברה מודיעה על מחירים חדשים,בכבוד רב\n", charmap.Windows1255},
		{"Ukrainian", "номер,назва\n1,Київський завод\n2,Північний вітер\n", charmap.Windows1251},
		{"ISO-2022-JP", "番号,品名\n1,商品\n2,りんご\n", japanese.ISO2022JP},
		{"Greek", "αριθμός,όνομα\n1,Γιώργος Παπαδόπουλος\n2,Μαρία Ιωάννου\n", charmap.Windows1253},
		{"Hebrew", "מספר,שם,עיר\n1,משה כהן,ירושלים\n2,רחל לוי,תל אביב\n", charmap.Windows1255},
		{"Hebrew of DOS", "מספר,שם,עיר\n1,משה כהן,ירושלים\n2,רחל לוי,תל אביב\n", charmap.CodePage862},
		{"Arabic", "رقم,الاسم,المدينة\n1,محمد علي,القاهرة\n2,فاطمة حسن,الرياض\n", charmap.Windows1256},
		{"Thai", "ลำดับ,ชื่อ,จังหวัด\n1,สมชาย ใจดี,กรุงเทพมหานคร\n2,สมหญิง รักไทย,เชียงใหม่\n", charmap.Windows874},
		{"Polish", "Imię,Miejscowość\nŻółć Wąsik,Łódź\nGęślą,Kraków\n", charmap.Windows1250},
		{"Polish in Latin-2", "Imię,Miejscowość\nŻółć Wąsik,Łódź\nGęślą,Kraków\n", charmap.ISO8859_2},
		{"Polish of DOS", "Imię,Miejscowość\nŻółć Wąsik,Łódź\nGęślą,Kraków\n", charmap.CodePage852},
		{"Czech", "Jméno,Město\nJiří Dvořák,Plzeň\nTomáš Němec,Ústí nad Labem\n", charmap.Windows1250},
		{"Hungarian", "Név,Város\nKovács Júlia,Székesfehérvár\nFűzfő Gyuláné,Hódmezővásárhely\n", charmap.Windows1250},
		{"Croatian", "Ime,Mjesto\nĐorđe Božić,Čakovec\nAndrija Vučković,Križevci\nMaša Žužul,Požega\n", charmap.Windows1250},
		{"Slovene", "Ime,Mesto\nAleš Kovačič,Kočevje\nMateja Krušič,Domžale\nBožo Gačnik,Radeče\n", charmap.Windows1250},
		{"Hungarian in sentences", "a,b\n" + strings.Repeat("A fejlécek és a láblécek szövege,Jobb oldali margó és sorköz\nBillentyűk és vezérlők,Nincs ilyen fájl vagy könyvtár\nSzegélykiemelés és háttérszín,Általános beállítások\n", 3), charmap.Windows1250},
		{"Turkish", "Adı,Şehir\nAyşe Yıldırım,İstanbul\nÇağrı Öztürk,Eskişehir\n", charmap.Windows1254},
		{"Lithuanian", "Vardas,Miestas\nGrąžina Žukauskaitė,Klaipėda\nRūta Šimėnienė,Panevėžys\nGintarė Mėšlytė,Akmenė\n", charmap.Windows1257},
		{"Icelandic", "Nafn,Staður\nÞórður Jónsson,Reykjavík\nSigríður Guðmundsdóttir,Ísafjörður\n", charmap.Windows1252},
		{"Portuguese", "Nome,Cidade\nJoão Conceição,São Paulo\nInês Gonçalves,Relações\n", charmap.Windows1252},
		{"Italian", "Nome,Città\nNicolò,Forlì\nPerché più,Cefalù\n", charmap.Windows1252},
		{"several languages", "José Müller,Málaga\nSøren Lefèvre,Århus\nFrançois Ibáñez,Orléans\nZoë Conceição,Forlì\n", charmap.Windows1252},
		{"Mac Roman", "a,b\nMüller,Jäger\nKönig,Straßen\n", charmap.Macintosh},
		{"German", "Straße,Größe,Übermaß\nMüller,Jäger,König\n", charmap.Windows1252},
		{"French", "Prénom,Élève,Noël\nété,à côté,garçon déçu\n", charmap.Windows1252},
		{"German capitals", "GRÖSSE,STRAßE,ÄÖÜ\n1,2,3\n", charmap.Windows1252},
		{"quotation marks", "a,b\n“x”,‘y’\n„z“,–\n", charmap.Windows1252},
	} {
		raw, err := c.in.NewEncoder().String(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := tableOf(t, raw, "text/csv"), tableOf(t, c.text, "text/csv"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

func TestTablesThatProgramsWrote(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		columns, row []string // row is the last one
		rows         int
	}{
		"excel_mac_cr.csv":               {[]string{"Name", "Ort", "Summe"}, []string{"Person 29", "Berlin", "29,50"}, 30},
		"sqlserver_utf16_nobom.csv":      {[]string{"id", "Bezeichnung", "Betrag"}, []string{"29", "Größe 29", "29,00"}, 30},
		"title_line_then_semicolons.csv": {[]string{"Umsatzbericht 2026"}, []string{"2", "Meier", "3,50"}, 3},
		"sep_line.csv":                   {[]string{"id", "name"}, []string{"1", "Müller"}, 1},
		"quote_for_inch.tsv":             {[]string{"size", "name"}, []string{`7" inch`, "nut"}, 3},
		"sjis_excel.csv":                 {[]string{"番号", "品名", "価格"}, []string{"29", "商品29", "2900"}, 30},
	} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		mimeType := "text/csv"
		if filepath.Ext(name) == ".tsv" {
			mimeType = "text/tab-separated-values"
		}
		table := tableOf(t, string(raw), mimeType)
		if !slices.Equal(table.Columns, want.columns) || len(table.Rows) != want.rows || !slices.Equal(table.Rows[want.rows-1], want.row) {
			t.Errorf("%s: %+v", name, table)
		}
	}
}
