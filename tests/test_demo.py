"The page of `demo` in a real browser, with a microphone that plays a file."

import shutil

import pytest
import soundfile as sf
from test_formats import encode

from speaker_vgg_cct.apps.demo import make_page, serve, write_examples
from speaker_vgg_cct.data.audio import SAMPLE_RATE
from speaker_vgg_cct.data.synthetic import clip
from speaker_vgg_cct.inference.recognizer import SHIPPED, Recognizer

pytest.importorskip('gradio', reason='gradio is not installed: pip install speaker_vgg_cct[demo]')
sync_api = pytest.importorskip(
    'playwright.sync_api', reason='playwright is not installed: pip install playwright'
)
LONG = 600000  # ms; a busy machine may need so long for what takes seconds on a free one
sync_api.expect.set_options(timeout=LONG)
CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium')


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp('demo')
    hear = Recognizer.load(SHIPPED, runtime='torch')
    files = write_examples(root / 'examples', hear.classes)
    sf.write(root / 'voice.wav', clip('sad', 1), SAMPLE_RATE)
    (root / 'text.wav').write_text('this is no sound')
    page = make_page(hear, files)
    yield serve(page, block=False, examples=files), root, hear
    page.close()


@pytest.fixture
def browser(served):
    "A page whose microphone hears `voice.wav` again and again."
    address, root, _ = served
    flags = [
        '--no-sandbox',
        '--use-fake-ui-for-media-stream',
        '--use-fake-device-for-media-stream',
        f'--use-file-for-fake-audio-capture={root / "voice.wav"}',
    ]
    with sync_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=flags)
        tab = chromium.new_context(
            permissions=['microphone'], viewport={'width': 1100, 'height': 900}
        ).new_page()
        tab.set_default_timeout(LONG)
        tab.goto(address)
        tab.get_by_role('button', name='Upload file').wait_for()
        yield tab
        chromium.close()


def said(tab, text):
    "Waits until the page says so."
    sync_api.expect(tab.locator('#said')).to_contain_text(text)
    return tab.locator('#said').inner_text()


def upload(tab, file):
    tab.get_by_role('button', name='Upload file').click()
    tab.locator('input[type=file]').first.set_input_files(file)


def test_serves_this_machine_alone(served):
    assert served[0].startswith('http://127.0.0.1:')


def test_a_recording(served, browser):
    "As long as it takes: of a second, a busy machine may record next to nothing."
    for seconds in (2, 4, 8, 16, 32):
        browser.get_by_role('button', name='Record', exact=True).click()
        browser.wait_for_timeout(1000 * seconds)
        browser.get_by_role('button', name='Stop', exact=True).click()
        sync_api.expect(browser.locator('#said')).not_to_contain_text('Record or choose')
        told = browser.locator('#said').inner_text()
        if '%' in told:
            break
        browser.get_by_role('button', name='Clear').click()
        said(browser, 'Record or choose')
    assert '%' in told and any(c in told for c in served[2].classes)
    browser.locator('#picture img').first.wait_for()
    assert '%' in browser.locator('#bars').inner_text()


def test_an_upload_and_an_example(served, browser):
    address, root, hear = served
    upload(browser, root / 'examples' / 'anger.wav')
    assert hear(root / 'examples' / 'anger.wav').label in said(browser, '%')
    browser.get_by_role('button', name='Clear').click()
    said(browser, 'Record or choose')
    browser.get_by_role('button', name='sad.wav').click()
    assert hear(root / 'examples' / 'sad.wav').label in said(browser, '%')


def test_a_bad_file_is_told(served, browser):
    upload(browser, served[1] / 'text.wav')
    assert '/' not in said(browser, 'cannot be decoded')


def test_a_recording_of_a_telephone(served, browser):
    file = encode(served[1] / 'phone.m4a', 'ipod', 'aac', 16000)
    upload(browser, file)
    assert served[2](file).label in said(browser, '%')
