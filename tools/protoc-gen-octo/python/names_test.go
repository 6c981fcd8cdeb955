package python

import "testing"

func TestMethodNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Get": "get", "GetItem": "get_item", "getItem": "get_item", "get_item": "get_item", "Get_Item": "get_item",
		"HTTPGet": "http_get", "GetHTTP": "get_http", "GetURLNow": "get_url_now", "GetV2": "get_v2", "Get2Items": "get2_items",
		"do_it_2_times": "do_it_2_times", "A": "a", "AB": "ab", "aB": "a_b", "GET": "get", "Get__X": "get__x",
		"import": "import_", "None": "none", "True": "true", "Class": "class_", "match": "match", "print": "print",
		"_hidden": "hidden", "__init__": "init__", "_": "rpc_", "_2nd": "rpc_2nd", "_import": "import_", "_Get": "get",
	} {
		if got := methodName(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestSpeakable(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"A": true, "A.B": true, "_A": true, "type": true, "match": true,
		"None": false, "A.class": false, "import.A": false, "__A": false, "A.__B": false,
	} {
		if got := speakable(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestDocstrings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		paragraphs []string
		want       string
	}{
		{[]string{"", "\n"}, ""},
		{[]string{" One line.\n"}, `"""One line."""`},
		{[]string{` It ends in "quotes"`}, `"""It ends in "quotes\""""`},
		{[]string{` A \ and """ inside.`}, `"""A \\ and \"\"\" inside."""`},
		{[]string{" One.\n Two.\n", "", "Three."}, "\"\"\"One.\n  Two.\n\n  Three.\n  \"\"\""},
		{[]string{"   Deep.\n     Deeper.\r\n Not."}, "\"\"\"Deep.\n      Deeper.\n  Not.\n  \"\"\""},
	} {
		if got := docstring("  ", test.paragraphs...); got != test.want {
			t.Errorf("%q gives\n%s\nwant\n%s", test.paragraphs, got, test.want)
		}
	}
}
