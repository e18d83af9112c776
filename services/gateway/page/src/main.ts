import { mount } from "svelte";

import "./page.css";
import App from "./App.svelte";
import { session } from "./state/session.svelte";

session.showTheme();
mount(App, { target: document.getElementById("page")! });
void session.start();
