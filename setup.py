"Everything about the package is said once, in settings.ini; this reads it for pip."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here / 'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='MIT',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.11',
        'Topic :: Multimedia :: Sound/Audio :: Speech',
    ],
    packages=find_packages(include=['speaker_vgg_cct*']),
    include_package_data=False,
    package_data={'speaker_vgg_cct': ['bundles/*.svc']},
    install_requires=cfg['requirements'].split(),
    extras_require={
        k.removesuffix('_requirements'): v.split()
        for k, v in cfg.items()
        if k.endswith('_requirements')
    },
    python_requires=f">={cfg['min_python']}",
    entry_points={'console_scripts': cfg['console_scripts'].split()},
    zip_safe=False,
)
