// The widgets' modules run in the browser as they are written: nothing builds or bundles them.
import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-unused-vars": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  { files: ["pulpo/**/*.js"], languageOptions: { globals: globals.browser } },
];
